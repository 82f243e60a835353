"""The table of a study: how far each row agrees with float, and how far it is from its baseline."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from carsam.evaluation.paired import Paired, paired, seeds_needed

MEASURES = ("mask_iou", "boundary_iou")
EFFECTS = (0.0025, 0.005, 0.01, 0.02)
"""Differences of agreement for which the table says how many seeds show them."""

Results = dict[tuple[str, str, str], dict[int, dict[str, Any]]]
"""Results of cells, by seed, by model, row and mode."""


def document(
    results: Results, groups: dict[str, list[str]], kinds: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """Return a row of the table for every model, row and mode, as json.

    Args:
        results: of the cells that are done.
        groups: the group of every prompt, by model.
        kinds: the kind of every prompt, by model.
    """
    rows = []
    for (model, name, mode), by_seed in results.items():
        first = next(iter(by_seed.values()))
        baseline = results.get((model, first["cell"]["row"]["baseline"], mode), {})
        row: dict[str, Any] = {"model": model, "row": name, "mode": mode}
        row["baseline"] = first["cell"]["row"]["baseline"]
        row["seeds"] = sorted(by_seed)
        row["seconds"] = float(np.median([result["seconds"] for result in by_seed.values()]))
        row["mask_iou_by_kind"] = _by_kind(by_seed, kinds[model])
        for measure in MEASURES:
            row[measure] = float(np.mean([result[measure] for result in by_seed.values()]))
            shared = sorted(set(by_seed) & set(baseline))
            if shared:
                found = _paired(by_seed, baseline, shared, measure, groups[model])
                row[f"{measure}_difference"] = {**asdict(found), **needed(found), "seeds": shared}
        rows.append(row)
    return rows


def _by_kind(by_seed: dict[int, dict], kinds: list[str]) -> dict[str, float]:
    """Return the mean mask IoU of each kind of prompts."""
    means = np.mean([result["mask_iou"] for result in by_seed.values()], axis=0)
    of = np.array(kinds)
    return {kind: float(means[of == kind].mean()) for kind in dict.fromkeys(kinds)}


def _paired(
    rows: dict[int, dict], baseline: dict[int, dict], seeds: list[int], measure: str, names: list
) -> Paired:
    _, group = np.unique(names, return_inverse=True)
    both = (np.array([of[seed][measure] for seed in seeds]) for of in (rows, baseline))
    return paired(*both, group)


def needed(found: Paired) -> dict[str, Any]:
    """Return the seeds for 80 % power at each of `EFFECTS`, on these images."""
    if found.from_seeds is None:
        return {}
    spread = found.from_seeds**0.5
    return {"seeds_needed": {str(effect): seeds_needed(effect, spread) for effect in EFFECTS}}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown, in percent, and below it the seeds that effects need."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["mask_iou_by_kind"]))
    lines = [
        f"| model | row | mode | seeds | mask IoU | {' | '.join(kinds)} | against | difference "
        "| boundary IoU | difference |",
        "|---|---|---|---|---|---|---|---|---|" + "---|" * len(kinds),
    ]
    for row in rows:
        cells = [row["model"], row["row"], row["mode"], str(len(row["seeds"]))]
        cells.append(f"{100 * row['mask_iou']:.2f}")
        cells += [f"{100 * row['mask_iou_by_kind'].get(kind, np.nan):.1f}" for kind in kinds]
        cells.append(row["baseline"] or "")
        cells += [_difference(row, "mask_iou"), f"{100 * row['boundary_iou']:.2f}"]
        cells += [_difference(row, "boundary_iou")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_power(rows)]) + "\n"


def _power(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of the seeds that effects need; nothing where no row has two seeds."""
    known = [row for row in rows if "seeds_needed" in row.get("mask_iou_difference", {})]
    if not known:
        return []
    effects = [f"{100 * effect:g}" for effect in EFFECTS]
    lines = [
        "Seeds with which a difference of mask IoU (in points) is seen on these images with 80 %",
        "probability (paired t-test, 5 %), and the standard deviations behind it: of one seed's",
        "difference, and of what other images would change, which more seeds do not make less.",
        "",
        f"| model | row | mode | {' | '.join(effects)} | of a seed | of the images |",
        "|---|---|---|" + "---|" * (len(effects) + 2),
    ]
    for row in known:
        found = row["mask_iou_difference"]
        cells = [row["model"], row["row"], row["mode"]]
        cells += ["many" if n is None else str(n) for n in found["seeds_needed"].values()]
        spreads = (found["from_seeds"], found["from_images"])
        cells += ["" if spread is None else f"{100 * spread**0.5:.2f}" for spread in spreads]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _difference(row: dict[str, Any], measure: str) -> str:
    found = row.get(f"{measure}_difference")
    if found is None:
        return ""
    low, high = found["interval"]
    return f"{100 * found['mean']:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
