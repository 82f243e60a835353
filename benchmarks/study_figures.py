"""Figures of a study: dissipation and oscillation by model and row, from the cells' results."""

from pathlib import Path
from typing import Any

import numpy as np
from study_table import Results

from carsam.comparison.plot import svg_pyplot

CHANGES = {
    "entropy": "change of entropy, nats",
    "inside": "change of the share inside the object",
    "empty": "share of rows that are empty",
}
"""What is drawn of an attention's `Focus`, and its title."""


PLACES = [f"{block}.{part}" for block in (0, 1) for part in ("self", "t2i", "mlp", "i2t")]
PLACES.append("final t2i")
"""Stages of the two-way transformer of every SAM."""


def save_figures(results: Results, folder: Path) -> None:
    """Write `dissipation.svg` and `oscillation.svg`, of strict cells, means over seeds."""
    strict = {
        (model, row): list(by_seed.values())
        for (model, row, mode), by_seed in results.items()
        if mode == "strict"
    }
    if strict:
        _save_dissipation(strict, folder / "dissipation.svg")
    if any(found["losses"] for cells in strict.values() for found in cells):
        _save_oscillation(strict, folder / "oscillation.svg")


def _save_dissipation(strict: dict[tuple[str, str], list[dict]], path: Path) -> None:
    """Draw by how much entropy, share inside the object and empty rows change, by attention."""
    models = list(dict.fromkeys(model for model, _ in strict))
    pyplot = svg_pyplot()
    size = (12, 0.8 + 2.2 * len(models))
    figure, panels = pyplot.subplots(
        len(models), len(CHANGES), figsize=size, squeeze=False, layout="constrained"
    )
    for model, line in zip(models, panels, strict=True):
        rows = {row: cells for (of, row), cells in strict.items() if of == model}
        width = 0.8 / len(rows)
        for place, (row, cells) in enumerate(rows.items()):
            for axes, key in zip(line, CHANGES, strict=True):
                changes = np.mean([[_change(f, key) for f in c["focus"]] for c in cells], axis=0)
                axes.bar(np.arange(len(changes)) + place * width, changes, width, label=row)
        names = [_short(found["path"]) for found in next(iter(rows.values()))[0]["focus"]]
        for axes, what in zip(line, CHANGES.values(), strict=True):
            axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names, fontsize=7)
            axes.set_title(f"{model}: {what}", fontsize=8)
            axes.axhline(0, color="black", linewidth=0.5)
            axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def _save_oscillation(strict: dict[tuple[str, str], list[dict]], path: Path) -> None:
    """Draw the final loss of every unit of the decoder, in the order of execution."""
    models = list(dict.fromkeys(model for model, _ in strict))
    pyplot = svg_pyplot()
    size = (9, 0.8 + 2.6 * len(models))
    figure, panels = pyplot.subplots(
        len(models), 1, figsize=size, squeeze=False, layout="constrained"
    )
    for model, (axes,) in zip(models, panels, strict=True):
        for (of, row), cells in strict.items():
            losses = [_final_losses(cell) for cell in cells]
            if of != model or not losses[0]:
                continue
            names = list(losses[0])
            values = np.mean([list(found.values()) for found in losses], axis=0)
            swing = float(np.mean([cell["swing"] for cell in cells]))
            places = [PLACES.index(name) for name in names]
            axes.plot(places, values, ".-", label=f"{row}: swing {swing:.2f}")
        axes.set_xticks(range(len(PLACES)), PLACES, fontsize=7)
        axes.set_yscale("log")
        axes.set_title(f"{model}: final loss of every unit", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=6, frameon=False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def _final_losses(cell: dict[str, Any]) -> dict[str, float]:
    """Return each decoder unit's loss at the end, by its last stage."""
    found = {}
    for curve in cell["losses"]:
        if curve["unit"].startswith("mask_decoder.transformer."):
            last = _short(curve["unit"].split(" + ")[-1])
            found[last] = curve["after"] if curve["kept"] else curve["before"]
    return found


def _change(found: dict[str, Any], key: str) -> float:
    return float(found["quantized"][key] - found["float"][key])


def _short(path: str) -> str:
    """Return `0.t2i` for the path of the first block's attention of tokens to the image."""
    name = path.removeprefix("mask_decoder.transformer.").removeprefix("layers.")
    for long, short in (
        ("cross_attn_token_to_image", "t2i"),
        ("cross_attn_image_to_token", "i2t"),
        ("final_attn_token_to_image", "final t2i"),
        ("self_attn", "self"),
    ):
        name = name.replace(long, short)
    return name
