"""COCO instances json -> what an evaluation measures with, checked as a whole before any image."""

from dataclasses import dataclass
from pathlib import Path

from carsam.errors import UserError
from carsam.evaluation import masks
from carsam.evaluation.coco_data import Annotation, CocoData
from carsam.evaluation.coco_entries import JsonEntry, read_entries
from carsam.evaluation.ids import Id, IdTable
from carsam.evaluation.json_reading import Box
from carsam.evaluation.segmentations import usable_segmentation
from carsam.evaluation.warning_log import WarningLog

NO_CATEGORY = ""
"""Category id of what has none."""


def read_coco(path: str | Path, log: WarningLog | None = None) -> CocoData:
    """Read a COCO instances json: images with a size, annotations whose mask has a pixel.

    A box or an area that is missing is that of the mask. Everything else is left out.

    Args:
        path: the json.
        log: counts what is left out or mended.

    Raises:
        UserError: It is no COCO json, gives one id to different images, or holds no object that
            can be evaluated; the message says what it holds instead.
    """
    log = log or WarningLog(path)
    found = read_entries(path, log)
    for image in found.images:
        if not image.width:
            log.add("image-without-size", image.file_name)
    categories = _Categories(IdTable(found.categories), log)
    annotations = [
        annotation
        for entry in found.entries
        if entry.image.width and (annotation := _annotation(entry, categories, log)) is not None
    ]
    if all(annotation.crowd for annotation in annotations):
        raise UserError(
            f"{path} holds no object to evaluate. {found.summary()}{log.sentences()} "
            "Give single objects with a mask: polygons or run lengths."
        )
    return CocoData(
        tuple(image for image in found.images if image.width),
        tuple(annotations),
        categories.table.ids,
        found.category_names,
    )


def box_of_mask(entry: JsonEntry) -> Box | None:
    """Return the box around an entry's mask, None if it has no usable mask or no pixel."""
    segmentation, _ = usable_segmentation(entry.segmentation, entry.image)
    if segmentation is None:
        return None
    rle = masks.segmentation_rle(segmentation, entry.image)
    return masks.box(rle) if masks.area(rle) else None


@dataclass(frozen=True)
class _Categories:
    table: IdTable
    log: WarningLog

    def of(self, entry: JsonEntry) -> Id:
        """Return an entry's category; one that the json does not list is added."""
        if entry.category is None:
            self.log.add("no-category", entry.id)
            self.table.add(NO_CATEGORY)
            return NO_CATEGORY
        listed = self.table.find(entry.category)
        if listed is not None:
            return listed
        self.log.add("unlisted-category", entry.id)
        self.table.add(entry.category)
        return entry.category


def _annotation(entry: JsonEntry, categories: _Categories, log: WarningLog) -> Annotation | None:
    """Return the entry with its mask; None, with a named warning, if it has none."""
    segmentation, partial = usable_segmentation(entry.segmentation, entry.image)
    if segmentation is None:
        log.add("unusable-mask" if entry.segmentation else "no-mask", entry.id)
        return None
    rle = masks.segmentation_rle(segmentation, entry.image)
    pixels = masks.area(rle)
    if pixels == 0:
        log.add("empty-mask", entry.id)
        return None
    for name, mended in (
        ("partial-mask", partial),
        ("box-from-mask", entry.box is None),
        ("area-from-mask", entry.area is None),
    ):
        if mended:
            log.add(name, entry.id)
    return Annotation(
        id=entry.id,
        image_id=entry.image.id,
        category_id=categories.of(entry),
        box=masks.box(rle) if entry.box is None else entry.box,
        area=float(pixels) if entry.area is None else entry.area,
        crowd=entry.crowd,
        segmentation=segmentation,
    )
