"""The table of a comparison: mean and spread over seeds for every recipe at every bit width."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One recipe at one bit width.

    Args:
        ap, mean_iou: mean over seeds, in percent.
        ap_spread: half the distance between the best and the worst seed, in percent; 0 for one.
        seconds, peak_mb: of the calibration, median over seeds; None for the float model.
        seeds: how many finished.
        failed: how many did not.
    """

    recipe: str
    bits: str
    ap: float | None
    ap_spread: float
    mean_iou: float | None
    seconds: float | None
    peak_mb: float | None
    seeds: int
    failed: int


def rows(results: Sequence[Result]) -> list[Row]:
    """Return one row per recipe and bit width, in the order of the results."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result["cell"]["recipe"], result["cell"]["bits"]].append(result)
    return [_row(recipe, bits, group) for (recipe, bits), group in groups.items()]


def markdown(table: Sequence[Row]) -> str:
    """Return the table in Markdown; AP and mean IoU in percent."""
    lines = [
        "| recipe | bits | AP | mean IoU | calibration | peak memory | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table:
        ap = "failed" if row.ap is None else f"{row.ap:.1f}"
        if row.seeds > 1:
            ap += f" ± {row.ap_spread:.1f}"
        iou = "" if row.mean_iou is None else f"{row.mean_iou:.1f}"
        seconds = "" if row.seconds is None else f"{row.seconds:.0f} s"
        memory = "" if row.peak_mb is None else f"{row.peak_mb / 1000:.1f} GB"
        failed = f" ({row.failed} failed)" if row.failed else ""
        lines.append(
            f"| {row.recipe} | {row.bits} | {ap} | {iou} | {seconds} | {memory} "
            f"| {row.seeds}{failed} |"
        )
    return "\n".join(lines) + "\n"


def _row(recipe: str, bits: str, group: Sequence[Result]) -> Row:
    done = [result for result in group if "error" not in result]
    aps = [100 * result["evaluation"]["coco"]["AP"] for result in done]
    ious = [100 * result["evaluation"]["mean_iou"] for result in done]
    costs = [result["calibration"] for result in done if "calibration" in result]
    return Row(
        recipe,
        bits,
        ap=statistics.mean(aps) if aps else None,
        ap_spread=(max(aps) - min(aps)) / 2 if aps else 0.0,
        mean_iou=statistics.mean(ious) if ious else None,
        seconds=statistics.median(cost["seconds"] for cost in costs) if costs else None,
        peak_mb=statistics.median(cost["peak_mb"] for cost in costs) if costs else None,
        seeds=len(done),
        failed=len(group) - len(done),
    )
