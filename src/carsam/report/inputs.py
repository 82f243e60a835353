"""The results of other commands that a report shows: evaluations and diagnoses."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carsam.errors import UserError

EVALUATION = "carsam-evaluation"
FRACTION = (int, float, type(None))

Shape = Mapping[str, type | tuple[type, ...]]
"""Keys of an object and the types of their values; of a dictionary's values: numbers or none."""

SIDE: Shape = {
    "coco": dict,
    "intervals": dict,
    "mean_iou": FRACTION,
    "mode": str,
    "engine": str,
    "engine_seconds": (int, float),
}
ONCE: Shape = {
    "images": int,
    "instances": int,
    "threads": int,
    "peak_memory_mb": (int, float),
    "versions": dict,
}
BESIDE: Shape = {"difference": dict, "intervals": dict, "mask_iou": FRACTION}


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read what `carsam evaluate --json` wrote of COCO images.

    Raises:
        UserError: it is something else.
    """
    expected = "a result of `carsam evaluate --coco ... --json FILE`"
    found = _read(path, expected)
    if found.get("format") != EVALUATION:
        raise UserError(
            f'{path} is no result of an evaluation on COCO: its "format" is '
            f'{found.get("format")!r}, expected "{EVALUATION}". Give {expected}.'
        )
    beside = found.get("agreement")
    sides = [side for side in (found, found.get("float")) if side is not None]
    if (
        not all(_fits(side, SIDE) for side in sides)
        or not _fits(found, ONCE)
        or (beside is not None and not _fits(beside, BESIDE))
    ):
        raise UserError(
            f"{path} lacks numbers of an evaluation, or they are not numbers. Give {expected}."
        )
    return found


def read_diagnosis(path: Path) -> dict[str, Any]:
    """Read what `carsam doctor --out FOLDER` wrote.

    Args:
        path: of the folder, or of `doctor.json` in it.

    Raises:
        UserError: it is something else.
    """
    file = path / "doctor.json" if path.is_dir() else path
    found = _read(file, "doctor.json, which `carsam doctor RUN --out FOLDER` writes")
    try:
        harms = [found["diagnosis"]["everything"]]
        harms += [
            h for part in ("alone", "cumulative", "operands") for h in found["diagnosis"][part]
        ]
        sound = all(
            isinstance(h["name"], str)
            and all(_is_number(h[key]) for key in ("lost_iou", "logit_error"))
            for h in harms
        )
        patterns = [p for cost in found["costs"] for p in cost["patterns"]]
        sound = sound and all(isinstance(pattern, str) for pattern in patterns)
        focus = [*found["float_focus"], *found["quantized_focus"]]
        sound = sound and all(
            isinstance(each["path"], str) and _is_number(each["entropy"] + each["inside"])
            for each in focus
        )
        sound = sound and len(found["costs"]) == len(found["diagnosis"]["alone"])
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise UserError(
            f"{file} does not hold what `carsam doctor` writes: a diagnosis of units and their "
            "costs. Run `carsam doctor RUN --images PHOTOS --out FOLDER` again."
        )
    return found


def _read(path: Path, expected: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); expected {expected}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); expected {expected}.") from error
    if not isinstance(found, Mapping):
        raise UserError(f"{path} holds no JSON object; expected {expected}.")
    return dict(found)


def _fits(found: Any, shape: Shape) -> bool:
    """Tell whether an object has keys with values of their types, and its tables numbers."""
    if not isinstance(found, Mapping):
        return False
    tables = [found[key] for key in ("coco", "difference") if isinstance(found.get(key), dict)]
    intervals = found.get("intervals")
    return (
        all(isinstance(found.get(key, ...), kind) for key, kind in shape.items())
        and all(isinstance(n, FRACTION) for table in tables for n in table.values())
        and (not isinstance(intervals, dict) or all(map(_is_interval, intervals.values())))
        and ("coco" not in shape or "AP" in found["coco"])
    )


def _is_interval(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
