"""The table of a comparison: mean and spread over seeds for every recipe at every bit width."""

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carsam.comparison.by_frame import by_frame
from carsam.comparison.run import Plan

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
        aps: of every seed, in percent.
        legacy: made with the published faults; comparable with no other row.
        j_and_f, j_and_f_spread: of followed objects, as `ap` and `ap_spread`; None without videos.
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
    aps: tuple[float, ...] = ()
    legacy: bool = False
    j_and_f: float | None = None
    j_and_f_spread: float = 0.0


def rows(results: Sequence[Result]) -> list[Row]:
    """Return one row per recipe and bit width, in the order of the results."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result["cell"]["recipe"], result["cell"]["bits"]].append(result)
    return [_row(recipe, bits, group) for (recipe, bits), group in groups.items()]


def about(plan: Plan, results: Sequence[Result]) -> dict[str, Any]:
    """Return what a table's numbers were measured on and with; of paths only the names."""
    evaluation: Result = next((r["evaluation"] for r in results if "evaluation" in r), {})
    videos: Result | None = next((r["davis"] for r in results if "davis" in r), None)
    facts = (
        *("image_size", "images", "instances", "ids_sha256"),
        *("prompts", "score", "bootstrap", "versions"),
    )
    return {
        "model": plan.model if not Path(plan.model).exists() else Path(plan.model).name,
        "coco": plan.coco.name,
        **{fact: evaluation.get(fact) for fact in facts},
        "calibration_images": plan.count,
        "calibration_prompts": "annotated boxes" if plan.calibration_coco else "found boxes",
        "seeds": plan.seeds,
        "settings": list(plan.settings),
        "engine": plan.engine,
        "device": plan.device,
        "threads": plan.threads,
        "videos": videos
        and {
            "sequences": [sequence["name"] for sequence in videos["sequences"]],
            "year": videos["year"],
            "prompts": videos["prompts"],
        },
    }


def document(plan: Plan, results: Sequence[Result]) -> dict[str, Any]:
    """Return the whole table as json values; with videos also J&F by frame."""
    table = [dataclasses.asdict(row) for row in rows(results)]
    found = {"about": about(plan, results), "rows": table}
    if curves := by_frame(results):
        found["by_frame"] = [
            {"recipe": recipe, "bits": bits, "j_and_f": curve}
            for (recipe, bits), curve in curves.items()
        ]
    return found


def caption(plan: Plan, results: Sequence[Result]) -> str:
    """Say in two lines of Markdown what the table shows."""
    facts = about(plan, results)
    videos = facts["videos"]
    followed = (
        f" J&F: {len(videos['sequences'])} sequences, protocol of {videos['year']}, prompts "
        f"{videos['prompts']}."
        if videos
        else ""
    )
    return (
        f"{facts['model']}: {facts['images']} images, {facts['instances']} objects of "
        f"{facts['coco']}, prompts {facts['prompts']}, score {facts['score']}, engine "
        f"{facts['engine']};\ncalibrated on {facts['calibration_images']} images, "
        f"{facts['seeds']} seeds, {facts['threads']} threads on {facts['device']}. In percent; "
        f"± is half the distance between the best and the worst seed.{followed}\n"
    )


def markdown(table: Sequence[Row]) -> str:
    """Return the table in Markdown; AP, mean IoU and, of videos, J&F in percent."""
    videos = any(row.j_and_f is not None for row in table)
    measures = ["AP", "of float", "mean IoU", *(["J&F"] if videos else [])]
    header = ["recipe", "bits", *measures, "calibration", "peak memory", "seeds"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    whole = next((row.ap for row in table if row.recipe == "float"), None)
    for row in table:
        ap = _with_spread(row.ap, row.ap_spread, row.seeds) or "failed"
        share = f"{100 * row.ap / whole:.0f} %" if row.ap is not None and whole else ""
        iou = "" if row.mean_iou is None else f"{row.mean_iou:.1f}"
        seconds = "" if row.seconds is None else f"{row.seconds:.0f} s"
        memory = "" if row.peak_mb is None else f"{row.peak_mb / 1000:.1f} GB"
        failed = f" ({row.failed} failed)" if row.failed else ""
        name = f"*{row.recipe}*" if row.legacy else row.recipe
        followed = [_with_spread(row.j_and_f, row.j_and_f_spread, row.seeds)] if videos else []
        costs = seconds, memory, f"{row.seeds}{failed}"
        cells = [name, row.bits, ap, share, iou, *followed, *costs]
        lines.append(f"| {' | '.join(cells)} |")
    if any(row.legacy for row in table):
        lines += ["", "*legacy*: has the published faults on purpose; compares with no other row."]
    return "\n".join(lines) + "\n"


def _row(recipe: str, bits: str, group: Sequence[Result]) -> Row:
    done = [result for result in group if "error" not in result]
    aps = [100 * result["evaluation"]["coco"]["AP"] for result in done]
    ious = [100 * result["evaluation"]["mean_iou"] for result in done]
    both = [100 * value for result in done if (value := _j_and_f(result)) is not None]
    costs = [result["calibration"] for result in done if "calibration" in result]
    return Row(
        recipe,
        bits,
        ap=statistics.mean(aps) if aps else None,
        ap_spread=_spread(aps),
        mean_iou=statistics.mean(ious) if ious else None,
        seconds=statistics.median(cost["seconds"] for cost in costs) if costs else None,
        peak_mb=statistics.median(cost["peak_mb"] for cost in costs) if costs else None,
        seeds=len(done),
        failed=len(group) - len(done),
        aps=tuple(aps),
        legacy=any(result["evaluation"].get("mode") == "legacy" for result in done),
        j_and_f=statistics.mean(both) if both else None,
        j_and_f_spread=_spread(both),
    )


def _j_and_f(result: Result) -> float | None:
    return result["davis"]["J_and_F"] if "davis" in result else None


def _spread(values: Sequence[float]) -> float:
    """Half the distance between the best and the worst."""
    return (max(values) - min(values)) / 2 if values else 0.0


def _with_spread(value: float | None, spread: float, seeds: int) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" + (f" ± {spread:.1f}" if seeds > 1 else "")
