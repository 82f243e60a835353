"""Masks as COCO run-length encodings: the only form in which an evaluation keeps them."""

from typing import Protocol

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from carsam.evaluation.coco_data import Annotation, CocoImage
from carsam.evaluation.ids import Id
from carsam.evaluation.json_reading import Box

Rle = dict
"""{"size": [height, width], "counts": compressed runs}, as pycocotools writes it."""


class ScoredMask(Protocol):
    """A predicted mask, as AP needs it."""

    @property
    def image_id(self) -> Id: ...

    @property
    def category_id(self) -> Id: ...

    @property
    def score(self) -> float: ...

    @property
    def rle(self) -> Rle: ...


def encode(mask: np.ndarray) -> Rle:
    """Return the encoding of `mask` (H, W) bool."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def decode(rle: Rle) -> np.ndarray:
    """Return the mask (H, W) bool of an encoding."""
    return coco_mask.decode(rle).astype(bool)


def area(rle: Rle) -> int:
    """Return the number of pixels in the mask."""
    return int(coco_mask.area(rle))


def annotation_rle(annotation: Annotation, image: CocoImage) -> Rle:
    """Return the annotation's mask; several polygons are joined, as COCO does."""
    return segmentation_rle(annotation.segmentation, image)


def segmentation_rle(segmentation: list | dict, image: CocoImage) -> Rle:
    """Return the mask of usable polygons or run lengths, as `usable_segmentation` gives them."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, image.height, image.width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, image.height, image.width)
    return segmentation


def box(rle: Rle) -> Box:
    """Return the smallest box around the mask's pixels."""
    x, y, width, height = (float(value) for value in coco_mask.toBbox(rle))
    return x, y, x + width, y + height


def iou(first: Rle, second: Rle) -> float:
    """Return the intersection over union of two masks; two empty masks agree fully: 1."""
    if area(first) == 0 and area(second) == 0:
        return 1.0
    return float(coco_mask.iou([first], [second], [0])[0][0])
