"""COCO instances json -> the boxes that calibration prompts with; an object needs no mask."""

from collections import defaultdict
from pathlib import Path

from carsam.errors import UserError
from carsam.evaluation.coco_entries import JsonEntry, read_entries
from carsam.evaluation.coco_reading import box_of_mask
from carsam.evaluation.image_files import find_files
from carsam.evaluation.json_reading import Box
from carsam.evaluation.prompts import usable_box
from carsam.evaluation.warning_log import WarningLog
from carsam.progress import Progress


def read_boxes(
    path: str | Path, image_folder: str | Path | None, progress: Progress
) -> dict[str, list[Box]]:
    """Return the boxes of every image with an object, by its path in the folder.

    A mask stands in for a box that is missing. Crowds, and boxes of which nothing lies inside the
    image, are left out.

    Args:
        path: the json.
        image_folder: folder of its images; None keeps the paths of the json.
        progress: hears of what is left out.

    Raises:
        UserError: It is no COCO json, no image has a box, or none is in the folder; the message
            says what there is instead.
    """
    log = WarningLog(path)
    found = read_entries(path, log)
    boxes: dict[str, list[Box]] = defaultdict(list)
    for entry in found.entries:
        box = None if entry.crowd else _box(entry, log)
        if box is not None:
            boxes[entry.image.file_name].append(box)
    if not boxes:
        raise UserError(
            f"{path} holds no object with a usable box; calibration needs prompts. "
            f"{found.summary()}{log.sentences()} Give single objects with a box or a mask."
        )
    files = {name: name for name in boxes}
    if image_folder is not None:
        files = find_files(boxes, image_folder, log)
    log.tell(progress)
    in_folder: dict[str, list[Box]] = defaultdict(list)
    for name, file in files.items():
        in_folder[file] += boxes[name]
    return dict(in_folder)


def _box(entry: JsonEntry, log: WarningLog) -> Box | None:
    box = box_of_mask(entry) if entry.box is None else entry.box
    if box is None:
        log.add("annotation-without-box", entry.id)
        return None
    return usable_box(box, entry.image, entry.id, log)
