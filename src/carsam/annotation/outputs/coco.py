"""Results as COCO writes them: instances with all that tools ask for, or bare results."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from carsam.annotation.items import Annotations, MaskRecord
from carsam.annotation.outputs.base import About
from carsam.evaluation.ids import Id
from carsam.images.polygons import polygons
from carsam.images.run_lengths import RunLengths

NO_CATEGORY = 1
"""Category of masks of which nothing says what they show."""

NO_CATEGORY_NAME = "object"


def results(masks: Iterable[MaskRecord]) -> list[dict[str, Any]]:
    """Return masks as a list in COCO's results format, which evaluators read.

    There is no `bbox`: pycocotools would take the areas of boxes for those of the masks.
    """
    return [
        {
            "image_id": mask.image_id,
            "category_id": category_of(mask),
            "segmentation": mask.mask.compressed(),
            "score": mask.score,
        }
        for mask in masks
    ]


def instances(
    found: Annotations, about: About, shape: Callable[[RunLengths], Any] = RunLengths.compressed
) -> dict[str, Any]:
    """Return images, masks and categories as a COCO instances json.

    Each annotation also has `score` and what is known of its origin. What has no mask stands in
    `errors`.

    Args:
        shape: turns a mask into the value of `segmentation`.
    """
    return {
        "info": dict(about.info),
        "images": [asdict(image) for image in found.images],
        "annotations": [
            {
                "id": number,
                "image_id": mask.image_id,
                "category_id": category_of(mask),
                "bbox": bbox(mask),
                "area": mask.mask.area,
                "iscrowd": 0,
                "segmentation": shape(mask.mask),
                "score": mask.score,
                **_origin(mask),
            }
            for number, mask in enumerate(found.masks, about.first_id)
        ],
        "categories": categories_of(found.masks, about.categories),
        "errors": [asdict(error) for error in found.errors],
    }


def rle_content(found: Annotations, about: About) -> bytes:
    """Return an instances json with run lengths."""
    return as_json(instances(found, about))


def polygon_content(found: Annotations, about: About) -> bytes:
    """Return an instances json with polygons, which follow the edges of the pixels."""
    return as_json(instances(found, about, lambda mask: polygons(mask.mask())))


def bbox(mask: MaskRecord) -> list[int]:
    """Return x, y, width and height of the box around all pixels of a mask."""
    left, top, right, bottom = mask.mask.box
    return [left, top, right + 1 - left, bottom + 1 - top]


def category_of(mask: MaskRecord) -> Id:
    """Return a mask's category, or the one for masks that have none."""
    return mask.category_id or NO_CATEGORY


def category_name(mask: MaskRecord, names: Mapping[Id, str]) -> str:
    """Return the name of a mask's category; its id where it has none."""
    category = mask.category_id or NO_CATEGORY
    unknown = str(category) if mask.category_id else NO_CATEGORY_NAME
    return names.get(category, unknown)


def categories_of(masks: Iterable[MaskRecord], names: Mapping[Id, str]) -> list[dict[str, Any]]:
    """Return COCO's list of the named categories, and of those that only masks have."""
    known = dict(names)
    for mask in masks:
        known.setdefault(category_of(mask), category_name(mask, names))
    return [{"id": identity, "name": name, "supercategory": ""} for identity, name in known.items()]


def as_json(document: Any) -> bytes:
    """Return a document as json text of one line."""
    return json.dumps(document, allow_nan=False).encode() + b"\n"


def _origin(mask: MaskRecord) -> dict[str, Any]:
    keys = ("prompt_id", "detection_score", "stability_score")
    pairs = ((key, getattr(mask, key)) for key in keys)
    return {key: value for key, value in pairs if value is not None}
