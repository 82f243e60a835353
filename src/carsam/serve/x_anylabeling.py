"""The protocol of X-AnyLabeling-Server, as X-AnyLabeling's "Remote-Server" speaks it.

The program sends the whole photo with every click; it is encoded at the first one only.
"""

from typing import Any

from carsam.serve.asked import Answer, Asked
from carsam.serve.fields import checked, field, optional, parse
from carsam.serve.images import from_data_uri
from carsam.serve.refusals import Refused, wrong
from carsam.serve.shapes import FINENESS, outlines

MODEL = "carsam"

LABEL = "AUTOLABEL_OBJECT"
"""Stands for the label that a person then chooses."""

BUTTONS = ("button_add_point", "button_remove_point", "button_add_rect", "button_clear")
WIDGETS: tuple[dict[str, Any], ...] = (
    *({"name": name, "value": None} for name in (*BUTTONS, "button_finish_object")),
    {"name": "mask_fineness_slider", "value": 10},
    {"name": "mask_fineness_value_label", "value": None},
)
"""What the program shows for this model."""

COARSEST = 0.1


def models(asked: Asked) -> dict[str, Any]:
    """Return the models there are: one."""
    return {"success": True, "data": {MODEL: _about(asked)}}


def model_info(asked: Asked, model: str) -> dict[str, Any]:
    """Return what is said about one model."""
    _check(model)
    return {"success": True, "data": {"model_id": MODEL, **_about(asked)}}


def predict(asked: Asked) -> dict[str, Any]:
    """Return polygons for the marks on an image."""
    request = parse(asked.body)
    _check(field(request, "model", str))
    params = optional(request, "params", dict, {})
    fineness = optional(params, "epsilon_factor", float, FINENESS)
    if not 0 <= fineness <= COARSEST:
        raise wrong(f"Found epsilon_factor {fineness}; expected 0 to {COARSEST}.")
    boxes, points, labels = _marks(optional(params, "marks", list, []))
    content = from_data_uri(field(request, "image", str))
    shapes = []
    if boxes or points:
        encoded = asked.encoded(content)
        for found in asked.segmenter.best(encoded, boxes, points, labels):
            score = min(max(found.predicted_iou, 0.0), 1.0)
            shapes += [_shape(outline, score) for outline in outlines(found.mask, fineness)]
    return {"success": True, "data": {"shapes": shapes, "description": "", "replace": False}}


ANSWERS: dict[str, Answer] = {"/v1/predict": predict}


def _about(asked: Asked) -> dict[str, Any]:
    return {
        "display_name": f"CAR-SAM {asked.segmenter.name}",
        "widgets": WIDGETS,
        "params": {"epsilon_factor": FINENESS},
        "batch_processing_mode": None,
    }


def _check(model: str) -> None:
    if model != MODEL:
        raise Refused(404, "MODEL_NOT_FOUND", f"Found model {model[:80]!r}; expected {MODEL}.")


def _marks(marks: list[Any]) -> tuple[list[list[float]], list[list[float]], list[int]]:
    """Return boxes, points and the points' labels."""
    boxes, points, labels = [], [], []
    for mark in marks:
        mark = checked(mark, dict, "a mark")
        kind = field(mark, "type", str)
        numbers = [checked(each, float, "a coordinate") for each in field(mark, "data", list)]
        if (kind, len(numbers)) == ("point", 2):
            points.append(numbers)
            labels.append(optional(mark, "label", int, 1))
        elif (kind, len(numbers)) == ("rectangle", 4):
            (left, right), (top, bottom) = sorted(numbers[::2]), sorted(numbers[1::2])
            boxes.append([left, top, right, bottom])
        else:
            raise wrong(
                f"Found a mark of type {kind[:40]!r} with {len(numbers)} numbers; expected a point "
                "with 2 or a rectangle with 4."
            )
    return boxes, points, labels


def _shape(outline: list[list[float]], score: float) -> dict[str, Any]:
    return {
        "label": LABEL,
        "shape_type": "polygon",
        "points": [*outline, outline[0]],
        "score": score,
    }
