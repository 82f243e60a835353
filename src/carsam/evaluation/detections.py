"""A detector's result json, in COCO's results format: the boxes that `detections` prompts with."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carsam.errors import UserError
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.coco_reading import NO_CATEGORY
from carsam.evaluation.ids import Id, IdTable, parse_id
from carsam.evaluation.json_reading import Box, corners, number, read_json
from carsam.evaluation.warning_log import WarningLog, listed


@dataclass(frozen=True)
class Detection:
    """One box of a detector; `index` is its place in the json."""

    index: int
    image_id: Id
    category_id: Id
    box: Box
    score: float


def read_detections(path: str | Path, data: CocoData, log: WarningLog) -> dict[Id, list[Detection]]:
    """Read a list of {image_id, category_id, bbox [x, y, width, height], score}.

    Returns:
        Detections by image id, in the json's order. Those that cannot be read, and those on images
        or of categories that `data` lacks, are left out, with a named warning.

    Raises:
        UserError: Malformed json, no list, or no detection left.
    """
    document = read_json(path)
    if not isinstance(document, list):
        raise UserError(
            f"{path} holds {type(document).__name__}, expected a list: a detector's results in "
            "COCO's format. An object with images and annotations is the COCO json itself."
        )
    images, categories = IdTable(image.id for image in data.images), IdTable(data.category_ids)
    found: dict[Id, list[Detection]] = defaultdict(list)
    for index, value in enumerate(document):
        detection = _detection(index, value, images, categories)
        if isinstance(detection, str):
            log.add(detection, index)
        else:
            found[detection.image_id].append(detection)
    if not found:
        raise UserError(
            f"{path} has {len(document)} detections, none of them usable.{log.sentences()} "
            f"They name the images {_named(document, 'image_id')} and the categories "
            f"{_named(document, 'category_id')}; {log.json} has the images "
            f"{listed(list(images.ids))} and the categories {listed(list(categories.ids))}. "
            "Give a detector's results on these images, with the json's ids."
        )
    return found


def _detection(index: int, value: Any, images: IdTable, categories: IdTable) -> Detection | str:
    """Return a detection, or the name of the warning that says why it is none."""
    if not isinstance(value, dict):
        return "detection-entry"
    named_image, named_category = (parse_id(value.get(key)) for key in ("image_id", "category_id"))
    if named_category is None and NO_CATEGORY in categories.ids:
        named_category = NO_CATEGORY
    box, score = corners(value.get("bbox")), number(value.get("score"))
    if named_image is None or named_category is None or box is None or score is None:
        return "detection-entry"
    image, category = images.find(named_image), categories.find(named_category)
    if image is None:
        return "detection-without-image"
    if category is None:
        return "detection-without-category"
    return Detection(index, image, category, box, score)


def _named(document: list, key: str) -> str:
    """Return the different values that detections have under a key, as far as they are ids."""
    values = (parse_id(value.get(key)) for value in document if isinstance(value, dict))
    return listed(list(dict.fromkeys(value for value in values if value is not None))) or "none"
