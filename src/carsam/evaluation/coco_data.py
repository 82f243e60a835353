"""COCO instances json -> frozen records, checked as a whole before any image is read."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from faster_coco_eval.core import mask as coco_mask

from carsam.errors import UserError
from carsam.evaluation.json_reading import Record, is_finite_number, read_json
from carsam.evaluation.warning_log import listed

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the original image."""

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}
"""Size classes by annotation area in pixels: from, to (excluded)."""


@dataclass(frozen=True)
class CocoImage:
    """One image; sizes in pixels."""

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class Annotation:
    """One object of one image.

    `segmentation` is what the json holds: polygons or a run-length encoding.
    `masks.annotation_rle` decodes it.
    A `crowd` is never prompted; COCO AP ignores detections that fall into it.
    """

    id: int
    image_id: int
    category_id: int
    box: Box
    area: float
    crowd: bool
    segmentation: list | dict

    @property
    def size(self) -> str:
        """Return the annotation's class of `SIZES`."""
        return next(name for name, (low, high) in SIZES.items() if low <= self.area < high)


@dataclass(frozen=True)
class CocoData:
    """Images and annotations, both in order of id, and the category ids."""

    images: tuple[CocoImage, ...]
    annotations: tuple[Annotation, ...]
    category_ids: tuple[int, ...]

    @cached_property
    def _annotations_by_image(self) -> dict[int, list[Annotation]]:
        found = defaultdict(list)
        for annotation in self.annotations:
            found[annotation.image_id].append(annotation)
        return found

    def of_image(self, image_id: int) -> tuple[Annotation, ...]:
        """Return the annotations of one image, crowds included."""
        return tuple(self._annotations_by_image.get(image_id, ()))

    def restricted(self, image_ids: Collection[int]) -> "CocoData":
        """Return only these images and their annotations; categories stay."""
        return CocoData(
            tuple(image for image in self.images if image.id in image_ids),
            tuple(
                annotation for annotation in self.annotations if annotation.image_id in image_ids
            ),
            self.category_ids,
        )

    def ids_sha256(self) -> str:
        """Return the SHA-256 of the sorted image ids and annotation ids: one test set, one hash."""
        ids = [[image.id for image in self.images], [item.id for item in self.annotations]]
        return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def read_coco(path: str | Path) -> CocoData:
    """Read and check a COCO instances json.

    Raises:
        UserError: Malformed json, a missing key, a wrong type, an id used twice, an annotation
            without its image or category, a segmentation that is no mask of its image.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise UserError(
            f"{path} holds {type(document).__name__}, expected an object: a COCO instances json."
        )
    categories = [record.integer("id") for record in _records(document, "categories", path)]
    images = [_image(record) for record in _records(document, "images", path)]
    annotations = [_annotation(record) for record in _records(document, "annotations", path)]
    _refuse_repeated("category", categories, path)
    _refuse_repeated("image", [image.id for image in images], path)
    _refuse_repeated("annotation", [annotation.id for annotation in annotations], path)
    _refuse_dangling(annotations, {image.id for image in images}, set(categories), path)
    sizes = {image.id: image for image in images}
    for annotation in annotations:
        _check_segmentation(annotation, sizes[annotation.image_id])
    return CocoData(
        tuple(sorted(images, key=lambda image: image.id)),
        tuple(sorted(annotations, key=lambda annotation: annotation.id)),
        tuple(sorted(categories)),
    )


def _records(document: dict, key: str, path: str | Path) -> list[Record]:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise UserError(
            f"{path} has no list {key!r}; found {listed(list(document)) or 'no keys'}. "
            "Expected a COCO instances json with images, annotations and categories."
        )
    return [Record(entry, f"{path}: {key}[{index}]") for index, entry in enumerate(entries)]


def _image(record: Record) -> CocoImage:
    image = CocoImage(
        record.integer("id"),
        record.text("file_name"),
        record.integer("width"),
        record.integer("height"),
    )
    if image.width < 1 or image.height < 1:
        raise UserError(
            f"{record.where} is {image.width} x {image.height} pixels, expected at least 1 x 1."
        )
    return image


def _annotation(record: Record) -> Annotation:
    crowd = record.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise UserError(f"{record.where} has 'iscrowd' = {crowd!r}, expected 0 or 1.")
    area = record.number("area")
    if area < 0:
        raise UserError(f"{record.where} has 'area' = {area}, expected 0 or more.")
    return Annotation(
        id=record.integer("id"),
        image_id=record.integer("image_id"),
        category_id=record.integer("category_id"),
        box=record.box("bbox"),
        area=area,
        crowd=bool(crowd),
        segmentation=record.get("segmentation"),
    )


def _refuse_repeated(what: str, ids: Iterable[int], path: str | Path) -> None:
    repeated = [identity for identity, count in Counter(ids).items() if count > 1]
    if repeated:
        raise UserError(
            f"{path} uses {what} ids more than once: {listed(repeated)}. Make them unique."
        )


def _refuse_dangling(
    annotations: list[Annotation], images: set[int], categories: set[int], path: str | Path
) -> None:
    dangling = {
        "image": [item.id for item in annotations if item.image_id not in images],
        "category": [item.id for item in annotations if item.category_id not in categories],
    }
    for owner, found in dangling.items():
        if found:
            raise UserError(
                f"{path} has {len(found)} annotations without their {owner} (annotation ids "
                f"{listed(found)}). Add what they refer to, or remove them."
            )


def _check_segmentation(annotation: Annotation, image: CocoImage) -> None:
    segmentation = annotation.segmentation
    if isinstance(segmentation, dict):
        valid = segmentation.get("size") == [image.height, image.width] and _decodes(segmentation)
    else:
        valid = (
            isinstance(segmentation, list)
            and bool(segmentation)
            and all(_is_polygon(polygon, image) for polygon in segmentation)
        )
    if not valid:
        raise UserError(
            f"Annotation {annotation.id} has segmentation {str(segmentation)[:80]}; expected "
            "polygons of at least three points in the image, or a complete run-length encoding "
            f"of size [{image.height}, {image.width}]."
        )


def _decodes(segmentation: dict) -> bool:
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        height, width = segmentation["size"]
        runs = all(isinstance(run, int) and run >= 0 for run in counts)
        return runs and sum(counts) == height * width
    try:
        coco_mask.decode(segmentation)
    except (RuntimeError, TypeError, ValueError):
        return False
    return isinstance(counts, str)


def _is_polygon(polygon: Any, image: CocoImage) -> bool:
    """Three points or more, none farther outside the image than its size: drawing takes memory."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        return False
    return all(map(is_finite_number, polygon)) and all(
        -size <= coordinate <= 2 * size
        for size, coordinates in ((image.width, polygon[::2]), (image.height, polygon[1::2]))
        for coordinate in coordinates
    )
