"""The results of other commands that a report shows: evaluations and diagnoses."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carsam.errors import UserError

EVALUATION = "carsam-evaluation"


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read what `carsam evaluate --json` wrote of COCO images.

    Raises:
        UserError: it is something else.
    """
    found = _read(path, "a result of `carsam evaluate --coco ... --json FILE`")
    if found.get("format") != EVALUATION or not isinstance(found.get("coco"), dict):
        raise UserError(
            f'{path} is no result of an evaluation on COCO: its "format" is '
            f'{found.get("format")!r}, expected "{EVALUATION}". Give the file that '
            "`carsam evaluate --coco ... --json FILE` wrote."
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
