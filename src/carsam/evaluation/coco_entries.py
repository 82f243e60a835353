"""What a COCO json lists, entry by entry, before it is decided what each entry is good for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carsam.errors import UserError
from carsam.evaluation.coco_data import CocoImage
from carsam.evaluation.ids import Id, IdTable, parse_id
from carsam.evaluation.json_reading import Box, corners, number, read_json, whole_number
from carsam.evaluation.warning_log import WarningLog, listed

LONGEST_SIDE = 2**16
MOST_PIXELS = 2**30
"""Of an image; a json that says more is mistaken, and would make masks that fill the memory."""


@dataclass(frozen=True)
class JsonEntry:
    """One annotation of the json on one of its images.

    Args:
        id: its id, or its place in the json where it has none.
        image: its image, of width and height 0 where the json does not say them usably.
        category: what its category is called, if anything.
        box, area: None where the json does not say them usably.
        crowd: covers a group, not one object.
        segmentation: the json's value, whatever it is.
    """

    id: Id
    image: CocoImage
    category: Id | None
    box: Box | None
    area: float | None
    crowd: bool
    segmentation: Any


@dataclass(frozen=True)
class CocoEntries:
    """Images in order of file name, annotations and categories in the json's order.

    `annotations` is how many the json lists, those that are no entries included.
    `category_names` has the categories that the json gives a name.
    """

    images: tuple[CocoImage, ...]
    entries: tuple[JsonEntry, ...]
    categories: tuple[Id, ...]
    category_names: dict[Id, str]
    annotations: int

    def summary(self) -> str:
        """Return a sentence on how many annotations there are, and how many of them are crowds."""
        crowds = sum(entry.crowd for entry in self.entries)
        which = f", {crowds} of them crowd regions, which are never prompted" if crowds else ""
        return f"It has {self.annotations} annotations{which}."


def read_entries(path: str | Path, log: WarningLog) -> CocoEntries:
    """Read a COCO json; entries that cannot be used for anything are left out and counted.

    Raises:
        UserError: It is no json, has no images or no annotations, or gives one id to different
            images.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise UserError(
            f"{path} holds {type(document).__name__}, expected an object: a COCO instances json. "
            "A list is what a detector writes: give that as the detections."
        )
    images = _images(_values(document, "images", path), path, log)
    values = _values(document, "annotations", path)
    categories = _categories(document.get("categories"))
    return CocoEntries(
        tuple(sorted(images.values(), key=lambda image: image.file_name)),
        tuple(_entries(values, images, log)),
        tuple(categories),
        {identity: name for identity, name in categories.items() if name},
        len(values),
    )


def _values(document: dict, key: str, path: str | Path) -> list:
    values = document.get(key)
    if not isinstance(values, list):
        raise UserError(
            f"{path} has no list {key!r}; found {listed(list(document)) or 'no keys'}. "
            "Expected a COCO instances json with images, annotations and categories."
        )
    return values


def _images(values: list, path: str | Path, log: WarningLog) -> dict[Id, CocoImage]:
    images: dict[Id, CocoImage] = {}
    clashes = []
    for index, value in enumerate(values):
        image = _image(value)
        if image is None:
            log.add("image-entry", f"images[{index}]")
        elif image.id not in images:
            images[image.id] = image
        elif images[image.id].file_name == image.file_name:
            log.add("repeated-image", image.file_name)
        else:
            clashes.append(f"{image.id}: {images[image.id].file_name} and {image.file_name}")
    if clashes:
        raise UserError(
            f"{path} gives the same id to different images ({listed(clashes)}). Give each image "
            "an id of its own, so that it is clear which annotations belong to it."
        )
    if not images:
        raise UserError(
            f"{path} lists {len(values)} images, none of them usable.{log.sentences()} "
            "Expected images with id, file_name, width and height."
        )
    return images


def _image(value: Any) -> CocoImage | None:
    if not isinstance(value, dict):
        return None
    identity = parse_id(value.get("id"))
    file_name = value.get("file_name") or value.get("coco_url")  # LVIS has only the latter
    if identity is None or not isinstance(file_name, str) or not file_name.strip():
        return None
    width, height = (whole_number(value.get(key)) or 0 for key in ("width", "height"))
    usable = all(0 < side <= LONGEST_SIDE for side in (width, height))
    if not usable or width * height > MOST_PIXELS:
        width = height = 0
    return CocoImage(identity, file_name, width, height)


def _entries(values: list, images: dict[Id, CocoImage], log: WarningLog) -> list[JsonEntry]:
    table = IdTable(images)
    entries = []
    for index, value in enumerate(values):
        place = f"annotations[{index}]"
        if not isinstance(value, dict):
            log.add("annotation-entry", place)
            continue
        identity = parse_id(value.get("id"))
        identity = place if identity is None else identity
        named = parse_id(value.get("image_id"))
        image_id = None if named is None else table.find(named)
        if image_id is None:
            log.add("annotation-without-image", identity)
            continue
        area = number(value.get("area"))
        entries.append(
            JsonEntry(
                id=identity,
                image=images[image_id],
                category=parse_id(value.get("category_id")),
                box=corners(value.get("bbox")),
                area=None if area is None or area < 0 else area,
                crowd=_crowd(value.get("iscrowd"), identity, log),
                segmentation=value.get("segmentation"),
            )
        )
    return entries


def _crowd(value: Any, identity: Id, log: WarningLog) -> bool:
    """Return what `iscrowd` says: 1, 1.0, "1" or true; nothing at all says no."""
    flag = value if isinstance(value, bool) else 0 if value is None else whole_number(value)
    if flag not in (0, 1):
        log.add("unclear-crowd", identity)
    return flag == 1


def _categories(values: Any) -> dict[Id, str]:
    """Return the ids listed, each once, with their names, "" where the json gives none.

    A category without an id can have no annotations.
    """
    categories: dict[Id, str] = {}
    for value in values if isinstance(values, list) else ():
        identity = parse_id(value.get("id")) if isinstance(value, dict) else None
        if identity is not None and identity not in categories:
            name = value.get("name")
            categories[identity] = name if isinstance(name, str) else ""
    return categories
