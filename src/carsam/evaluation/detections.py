"""A detector's result json, in COCO's results format: the boxes that `detections` prompts with."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from carsam.errors import UserError
from carsam.evaluation.coco_data import Box, CocoData
from carsam.evaluation.json_reading import Record, read_json
from carsam.evaluation.warning_log import WarningLog


@dataclass(frozen=True)
class Detection:
    """One box of a detector; `index` is its place in the json."""

    index: int
    image_id: int
    category_id: int
    box: Box
    score: float


def read_detections(
    path: str | Path, data: CocoData, log: WarningLog
) -> dict[int, list[Detection]]:
    """Read a list of {image_id, category_id, bbox [x, y, width, height], score}.

    Returns:
        Detections by image id, in the json's order. Those on images or of categories that `data`
        lacks are left out, with a named warning.

    Raises:
        UserError: Malformed json, a missing key, a wrong type, or no detection left.
    """
    document = read_json(path)
    if not isinstance(document, list):
        raise UserError(
            f"{path} holds {type(document).__name__}, expected a list: a detector's results in "
            "COCO's format."
        )
    image_ids = {image.id for image in data.images}
    found: dict[int, list[Detection]] = defaultdict(list)
    for index, entry in enumerate(document):
        detection = _detection(index, Record(entry, f"{path}: [{index}]"))
        if detection.image_id not in image_ids:
            log.add("detection-without-image", detection.index)
        elif detection.category_id not in data.category_ids:
            log.add("detection-without-category", detection.index)
        else:
            found[detection.image_id].append(detection)
    if not found:
        raise UserError(
            f"{path} has {len(document)} detections, none on an image of the COCO json. "
            "Give the results of a detector on these images."
        )
    return found


def _detection(index: int, record: Record) -> Detection:
    return Detection(
        index,
        record.integer("image_id"),
        record.integer("category_id"),
        record.box("bbox"),
        record.number("score"),
    )
