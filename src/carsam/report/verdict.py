"""The head of a report: one sentence, a few numbers, and the accuracy beside the float model."""

from collections.abc import Sequence

from carsam.report.html import folded, missing, paragraph, table, text
from carsam.report.sections import Found

BY_THE_WAY = "carsam evaluate RUN --coco instances.json --images DIR --json result.json"


def verdict(found: Found) -> str:
    """Return the sentence, the tiles and the table of accuracy."""
    return f'<p class="verdict">{text(sentence(found))}</p>{_tiles(found)}{_accuracy(found)}'


def sentence(found: Found) -> str:
    """Say what was gained and what was lost."""
    size, original = found["bytes"], found["float32_bytes"]
    recipe = found["provenance"]["recipe"]
    said = (
        f"Quantized to {recipe.get('bits')} by recipe {recipe.get('name')}, the model takes "
        f"{size / 1e6:.2f} MB instead of {original / 1e6:.1f} MB in float32, "
        f"{original / size:.1f} times less."
    )
    evaluation = found["evaluation"]
    if evaluation is None:
        return f"{said} Its accuracy is not among what this page was made from."
    seen = f"On {evaluation['images']} images with {evaluation['instances']} prompts"
    beside = evaluation.get("agreement")
    if not beside:
        reached = _percent(evaluation["coco"]["AP"])
        return f"{said} {seen} it reaches AP {reached}; the float model was not measured beside it."
    parts = [
        f"{called} changes by {_change(beside, name)}"
        for name, called in (("AP", "AP"), ("mean_iou", "mean IoU"))
        if beside["difference"].get(name) is not None
    ]
    return f"{said} {seen}, {' and '.join(parts)} (points of a hundred, 95 % intervals)."


def _tiles(found: Found) -> str:
    evaluation, photos = found["evaluation"], found["photos"]
    tiles = [("size on disk", f"{found['bytes'] / 1e6:.2f} MB", "")]
    if evaluation is not None:
        tiles.append(("AP", _percent(evaluation["coco"]["AP"]), ""))
        tiles.append(("mean IoU", _percent(evaluation["mean_iou"]), ""))
        if evaluation.get("agreement"):
            tiles.append(("mask IoU with float", _percent(evaluation["agreement"]["mask_iou"]), ""))
    if photos is not None:
        passed = photos["strict"] is None
        tiles.append(
            (
                "strict check: all on grids",
                "proved" if passed else "failed",
                "good" if passed else "bad",
            )
        )
    shown = "".join(
        f'<div class="tile"><b class="{kind}">{text(value)}</b><span>{text(name)}</span></div>'
        for name, value, kind in tiles
    )
    failed = photos["strict"] if photos is not None else None
    said = f'<p class="bad">{text(failed)}</p>' if failed else ""
    return f'<div class="tiles">{shown}</div>{said}'


def _accuracy(found: Found) -> str:
    evaluation = found["evaluation"]
    if evaluation is None:
        return missing(BY_THE_WAY, "For accuracy give --evaluation result.json, which this writes:")
    floats, beside = evaluation.get("float"), evaluation.get("agreement") or {}
    sides = [side for side in (floats, evaluation) if side]
    named = [(name, name) for name, value in evaluation["coco"].items() if value is not None]
    named.insert(1, ("mean_iou", "mean IoU"))
    rows = []
    for name, called in named:
        values = ({**side["coco"], "mean_iou": side["mean_iou"]}[name] for side in sides)
        intervals = (side["intervals"].get(name) for side in sides)
        changed = (
            _change(beside, name) if beside.get("difference", {}).get(name) is not None else ""
        )
        rows.append((called, *map(_with_interval, values, intervals), changed))
    images = max(1, evaluation["images"])
    seconds = (f"{side['engine_seconds'] / images:.2f}" for side in sides)
    engines = (side["mode"] for side in sides)
    rows[2:2] = [("engine", *engines, ""), ("seconds per image in it", *seconds, "")]
    head = ("", *(("float", "quantized") if floats else ("quantized",)), "change")
    numbers = range(1, len(head))
    threads = evaluation["threads"]
    note = (
        f"{threads} {'thread' if threads == 1 else 'threads'}; peak memory of the whole evaluation "
        f"{evaluation['peak_memory_mb'] / 1000:.2f} GB."
    )
    return (
        table(head, rows[:4], numbers)
        + folded("All of COCO's numbers", table(head, rows[4:], numbers))
        + paragraph(note, "quiet")
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _change(beside: Found, name: str) -> str:
    """Return a difference in points of a hundred, with its interval."""
    difference, interval = beside["difference"][name], beside["intervals"].get(name)
    ends = "" if interval is None else f" [{_signed(interval[0])}, {_signed(interval[1])}]"
    return f"{_signed(difference)}{ends}"


def _signed(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    ends = "" if interval is None else f" [{_percent(interval[0])}, {_percent(interval[1])}]"
    return _percent(value) + ends
