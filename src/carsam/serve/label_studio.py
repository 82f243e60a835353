"""The protocol of Label Studio's ML backends: `/setup`, `/predict` and, of the server, `/health`.

As the predictor of Label Studio's own examples: smart keypoints and rectangles that a person has
placed come in `params.context.result`, coordinates in percent; brush or polygon regions go back.
"""

import uuid
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any
from xml.etree import ElementTree

from carsam.annotation.outputs.label_studio import packed
from carsam.images.run_lengths import RunLengths
from carsam.serve.asked import Answer, Asked
from carsam.serve.fields import checked, field, optional, parse
from carsam.serve.images import from_address
from carsam.serve.refusals import wrong
from carsam.serve.segmenter import Found
from carsam.serve.shapes import outlines

LABELS = {"BrushLabels": "brushlabels", "PolygonLabels": "polygonlabels"}
"""Tags that masks can go to, the better one first."""

MOST_CONFIG = 1_000_000
"""Characters of a labelling configuration."""


def setup(asked: Asked) -> dict[str, Any]:
    """Answer a project that begins to use the server."""
    request = parse(asked.body)
    _tags(optional(request, "schema", str, ""))
    return {"model_version": asked.segmenter.name}


def predict(asked: Asked) -> dict[str, Any]:
    """Return regions for what a person has marked; nothing for tasks that nobody looks at."""
    request = parse(asked.body)
    tasks = field(request, "tasks", list)
    params = optional(request, "params", dict, {})
    context = optional(params, "context", dict, optional(request, "context", dict, {}))
    marks = [checked(mark, dict, "a region") for mark in optional(context, "result", list, [])]
    regions: list[dict[str, Any]] = []
    if marks:
        if len(tasks) != 1:
            raise wrong(f"Found marks for {len(tasks)} tasks; expected one.")
        config = field(request, "label_config", str)
        regions = _regions(asked, checked(tasks[0], dict, "a task"), marks, config)
    version = asked.segmenter.name
    scores = [region["score"] for region in regions]
    prediction = {
        "model_version": version,
        "score": sum(scores) / len(scores) if scores else 0.0,
        "result": regions,
    }
    return {"results": [prediction] * len(tasks), "model_version": version}


ANSWERS: dict[str, Answer] = {"/setup": setup, "/predict": predict}


def _regions(
    asked: Asked, task: dict[str, Any], marks: list[dict[str, Any]], config: str
) -> list[dict[str, Any]]:
    to_name = field(marks[0], "to_name", str)
    from_name, kind, data = _target(config, to_name)
    address = field(field(task, "data", dict), data, str)
    encoded = asked.encoded(from_address(address, asked.settings))
    prompt = _prompt(marks, encoded.size)
    (found,) = asked.segmenter.best(encoded, prompt.boxes, prompt.points, prompt.labels)
    height, width = encoded.size
    about = {
        "from_name": from_name,
        "to_name": to_name,
        "type": kind,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": found.predicted_iou,
        "readonly": False,
    }
    return [
        {**about, "id": uuid.uuid4().hex[:10], "value": {**value, kind: prompt.named}}
        for value in _values(found, kind)
    ]


@dataclass(frozen=True)
class Prompt:
    """What a person has marked, in pixels of the image.

    Args:
        boxes: x0 y0 x1 y1, at most one.
        points, labels: x and y, and 1 for the thing or 0 for what is around it.
        named: the label that was chosen last, if there is one.
    """

    boxes: list[list[float]] = dataclass_field(default_factory=list)
    points: list[list[float]] = dataclass_field(default_factory=list)
    labels: list[int] = dataclass_field(default_factory=list)
    named: list[str] = dataclass_field(default_factory=list)


def _prompt(marks: list[dict[str, Any]], size: tuple[int, int]) -> Prompt:
    height, width = size
    prompt = Prompt()
    for mark in marks:
        place = field(mark, "value", dict)
        x, y = (
            field(place, name, float) * side / 100 for name, side in (("x", width), ("y", height))
        )
        if optional(mark, "image_rotation", float, 0.0):
            raise wrong("Found a rotated image; expected marks on the image as it is.")
        what = field(mark, "type", str)
        if what.startswith("keypoint"):
            prompt.points.append([x, y])
            prompt.labels.append(int(bool(mark.get("is_positive", True))))
        elif what.startswith("rectangle"):
            w, h = field(place, "width", float), field(place, "height", float)
            prompt.boxes.append([x, y, x + w * width / 100, y + h * height / 100])
        else:
            raise wrong(f"Found a region of type {what[:40]!r}; expected keypoints, rectangles.")
        prompt.named[:] = [
            checked(name, str, "a label") for name in optional(place, what, list, [])
        ] or prompt.named
    if len(prompt.boxes) > 1:
        raise wrong(f"Found {len(prompt.boxes)} rectangles; expected at most one at a time.")
    return prompt


def _values(found: Found, kind: str) -> list[dict[str, Any]]:
    """Return a mask as the values of one region or, of polygons, several; none if it is empty."""
    if not found.mask.any():
        return []
    if kind == "brushlabels":
        return [{"format": "rle", "rle": packed(RunLengths.of_mask(found.mask))}]
    height, width = found.mask.shape
    return [
        {"closed": True, "points": [[100 * x / width, 100 * y / height] for x, y in outline]}
        for outline in outlines(found.mask)
    ]


def _target(config: str, to_name: str) -> tuple[str, str, str]:
    """Return the name and type of the tag that masks of an image go to, and the task's field."""
    tags = _tags(config)
    data = next(
        (tag.get("value", "") for tag in tags if (tag.tag, tag.get("name")) == ("Image", to_name)),
        "",
    )
    if not data.startswith("$"):
        raise wrong(f"The labelling configuration has no Image of name {to_name[:80]!r}.")
    for name, kind in LABELS.items():
        for tag in tags:
            if tag.tag == name and tag.get("toName") == to_name and tag.get("name"):
                return str(tag.get("name")), kind, data[1:]
    raise wrong(
        "The labelling configuration has neither BrushLabels nor PolygonLabels for the image."
    )


def _tags(config: str) -> list[ElementTree.Element]:
    """Return all tags of a labelling configuration.

    Raises:
        Refused: it is no XML, or it declares something, such as entities that grow when read.
    """
    if len(config) > MOST_CONFIG or "<!DOCTYPE" in config.upper() or "<!ENTITY" in config.upper():
        raise wrong("Found a labelling configuration that is too long, or declares entities.")
    try:
        return list(ElementTree.fromstring(config).iter()) if config.strip() else []
    except (ElementTree.ParseError, ValueError, RecursionError):
        raise wrong("Found a labelling configuration that is no XML.") from None
