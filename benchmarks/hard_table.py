"""The table of hard models: what makes them hard, beside the published numbers."""

from collections.abc import Mapping
from typing import Any

PUBLISHED = (
    "SAM-B, published",
    "[-14, 15]",
    "[-40, 65]",
    "2",
    "180",
    "",
    "72.5, 0.4",
    "45 / 83 / 167",
    "22 / 32 / 280",
    "34 / 100 / 172",
    "142",
    "",
    "",
    "0 to 3",
)
"""Ranges: CAR-SAM, of one attention. Peaks, at -8 and 8, and visible probabilities: PTQ4SAM.
Outliers: SAQ-SAM, largest over bulk. Kurtosis: measured by others with photos that were not
normalised, so indicative. Retention: mAP of CAR-SAM's and PTQ4SAM's tables without training."""

HEADINGS = (
    "model",
    "keys",
    "queries",
    "peaks",
    "largest / median key",
    "offsets",
    "visible, i2t, t2i (%)",
    "kurtosis qkv",
    "lin1",
    "lin2",
    "neck",
    "decoder lin2",
    "masks: IoU with sam-mini's",
    "rtn W4A4 keeps (% of AP)",
)


def markdown(models: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table in Markdown: published numbers, then one row per model."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    lines.append(f"| {' | '.join(PUBLISHED)} |")
    lines += [f"| {' | '.join(_cells(name, found))} |" for name, found in models.items()]
    lines += [
        "",
        "Keys and queries of the three token-to-image attentions: widest range; peaks, largest",
        "over median and offsets of each. Kurtosis: least / median / largest over layers. Masks:",
        "mean and least over prompts.",
    ]
    return "\n".join(lines) + "\n"


def _cells(name: str, found: Mapping[str, Any]) -> list[str]:
    attentions = list(found["attentions"].values())
    kurtosis = {kind: " / ".join(_short(v) for v in of) for kind, of in found["kurtosis"].items()}
    visible = [100 * sum(values) / len(values) for values in found["visible"].values()]
    to_image, to_tokens = visible
    masks = found.get("masks")
    retention = found.get("retention")
    return [
        name,
        _range([a["keys"] for a in attentions]),
        _range([a["queries"] for a in attentions]),
        ", ".join(str(a["peaks"]) for a in attentions),
        ", ".join(_short(a["outlier"]) for a in attentions),
        ", ".join(f"{a['offsets']:.2f}" for a in attentions),
        f"{to_tokens:.1f}, {to_image:.2f}",
        *(kurtosis[kind] for kind in ("qkv", "lin1", "lin2", "neck.conv1", "decoder lin2")),
        "" if masks is None else f"{masks['mean']:.4f}, {masks['least']:.3f}",
        "" if retention is None else f"{100 * retention['AP'] / retention['float_AP']:.0f}",
    ]


def _range(ranges: list[list[float]]) -> str:
    return f"[{min(low for low, _ in ranges):.0f}, {max(high for _, high in ranges):.0f}]"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"
