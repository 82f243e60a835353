"""The boxes of a json, COCO's or a detector's, found by the images of any source."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from carsam.annotation.items import Item
from carsam.errors import UserError
from carsam.evaluation.coco_entries import read_entries
from carsam.evaluation.ids import Id, IdTable, parse_id
from carsam.evaluation.json_reading import Box, corners, number, read_json
from carsam.evaluation.warning_log import WarningLog
from carsam.progress import Progress


@dataclass(frozen=True)
class BoxPrompt:
    """One box, x0 y0 x1 y1 in pixels.

    `id` is the annotation's, or the detection's place in its json.
    """

    id: Id
    box: Box
    category_id: Id | None
    detection_score: float | None = None


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one image, and the name under which the json has it, if any."""

    image_id: Id
    name: str | None
    boxes: tuple[BoxPrompt, ...]


class BoxTable:
    """The images of a json and their boxes.

    Args:
        images: each of them once.
        categories: names by id.
        sha256: of the json.
    """

    def __init__(
        self, images: Iterable[ImageBoxes], categories: Mapping[Id, str], sha256: str
    ) -> None:
        self.categories, self.sha256 = categories, sha256
        self._images = {image.image_id: image for image in images}
        self._ids = IdTable(self._images)
        self._by_path: dict[str, list[Id]] = defaultdict(list)
        self._by_name: dict[str, list[Id]] = defaultdict(list)
        for image in self._images.values():
            if image.name is not None:
                self._by_path[_path(image.name)].append(image.image_id)
                self._by_name[_name(image.name)].append(image.image_id)

    def __len__(self) -> int:
        return len(self._images)

    def find(self, item: Item) -> ImageBoxes | None:
        """Return the boxes of an image, None where the json does not mean it.

        The ids of the json and of the source are the same things where the json gives no names, or
        the same ones. Else the path decides, or the file's name where only one image has it. An id
        without a name may also be the file's name, as 139 is that of 000000000139.jpg.
        """
        image = None if item.id is None else self._with_id(item.id)
        if image is not None and (
            not item.named or image.name is None or _name(image.name) == _name(item.name)
        ):
            return image
        for known, key in ((self._by_path, _path(item.name)), (self._by_name, _name(item.name))):
            if len(known.get(key, ())) == 1:
                return self._images[known[key][0]]
        for text in (item.name, _name(item.name), PurePosixPath(_name(item.name)).stem):
            image = self._with_id(text)
            if image is not None and image.name is None:
                return image
        return None

    def _with_id(self, identity: Id) -> ImageBoxes | None:
        found = self._ids.find(identity)
        return None if found is None else self._images[found]


def read_box_table(path: Path, progress: Progress) -> BoxTable:
    """Read a COCO json, or a list of detections (image_id, bbox, and if given category_id, score).

    Crowds are left out, and what cannot be read, which is counted in a warning.

    Raises:
        UserError: it is neither, or has no box.
    """
    document = read_json(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if isinstance(document, list):
        return BoxTable(_of_detections(document, path, progress), {}, digest)
    log = WarningLog(path)
    entries = read_entries(path, log)
    boxes: dict[Id, list[BoxPrompt]] = {image.id: [] for image in entries.images}
    for entry in entries.entries:
        if entry.crowd:
            continue
        if entry.box is None:
            log.add("annotation-without-bbox", entry.id)
            continue
        boxes[entry.image.id].append(BoxPrompt(entry.id, entry.box, entry.category))
    log.tell(progress)
    if not any(boxes.values()):
        raise UserError(f"{path} has no box to prompt with. {entries.summary()}{log.sentences()}")
    images = [
        ImageBoxes(image.id, image.file_name, tuple(boxes[image.id])) for image in entries.images
    ]
    return BoxTable(images, entries.category_names, digest)


def _of_detections(document: list, path: Path, progress: Progress) -> list[ImageBoxes]:
    found: dict[Id, list[BoxPrompt]] = defaultdict(list)
    for index, value in enumerate(document):
        detection = _detection(index, value)
        if detection is not None:
            found[detection[0]].append(detection[1])
    unread = len(document) - sum(map(len, found.values()))
    if not found:
        raise UserError(
            f"{path} lists {len(document)} detections, none of them usable. Expected objects with "
            "image_id and bbox [x, y, width, height]."
        )
    if unread:
        progress.warn(f"{unread} detections of {path} have no image_id or no bbox; left out.")
    return [ImageBoxes(identity, None, tuple(boxes)) for identity, boxes in found.items()]


def _detection(index: int, value: Any) -> tuple[Id, BoxPrompt] | None:
    """Return the image and the box of a detection, None if it cannot be read."""
    if not isinstance(value, dict):
        return None
    image, box = parse_id(value.get("image_id")), corners(value.get("bbox"))
    if image is None or box is None:
        return None
    category, score = parse_id(value.get("category_id")), number(value.get("score"))
    return image, BoxPrompt(index, box, category, score)


def _path(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _name(name: str) -> str:
    return PurePosixPath(_path(name)).name
