"""Results as tasks of Label Studio, with brush masks that people can correct.

The masks' `rle` is thi.ng's bit packing of RGBA pixels, of which alpha alone is looked at: the
number of values (32 bits), bits of a value less 1 (5), bits of four kinds of lengths less 1 (4
each), then for each run a 1, the kind of its length (2), its length less 1, and its value.
"""

from typing import Any

import numpy as np

from carsam.annotation.items import Annotations, ImageRecord, MaskRecord
from carsam.annotation.outputs.base import About
from carsam.annotation.outputs.coco import as_json, category_name
from carsam.images.run_lengths import RunLengths

FROM_NAME, TO_NAME = "tag", "image"
"""Names of the brush and of the picture in the labelling configuration."""

LENGTHS = (3, 4, 8, 16)
"""Bits of the four kinds of lengths; these are those that Label Studio writes itself."""


def tasks(found: Annotations, about: About) -> list[dict[str, Any]]:
    """Return a task with one prediction for each image.

    `data.image` is the image's name; the storage in Label Studio says where it is.
    """
    masks: dict[Any, list[MaskRecord]] = {image.id: [] for image in found.images}
    for mask in found.masks:
        masks[mask.image_id].append(mask)
    return [_task(image, masks[image.id], about) for image in found.images]


def content(found: Annotations, about: About) -> bytes:
    """Return a json file of tasks."""
    return as_json(tasks(found, about))


def packed(mask: RunLengths) -> list[int]:
    """Return a mask as the bytes that Label Studio keeps of one."""
    rows = np.ravel(mask.mask())
    changes = np.flatnonzero(np.diff(rows)) + 1
    starts = np.concatenate([[0], changes])
    lengths = 4 * np.diff(np.concatenate([starts, [rows.size]]))
    bits = [f"{4 * rows.size:032b}", f"{8 - 1:05b}", *(f"{bits - 1:04b}" for bits in LENGTHS)]
    for value, length in zip(rows[starts], lengths.tolist(), strict=True):
        while length:
            run = min(length, 1 << LENGTHS[-1])
            kind = next(k for k, size in enumerate(LENGTHS) if run <= 1 << size)
            bits.append(f"1{kind:02b}{run - 1:0{LENGTHS[kind]}b}{255 * int(value):08b}")
            length -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _task(image: ImageRecord, masks: list[MaskRecord], about: About) -> dict[str, Any]:
    scores = [mask.score for mask in masks]
    return {
        "data": {"image": image.file_name},
        "meta": {"image_id": image.id},
        "predictions": [
            {
                "model_version": str(about.info.get("model", "carsam")),
                "score": sum(scores) / len(scores) if scores else 0.0,
                "result": [_region(image, mask, about, k) for k, mask in enumerate(masks, 1)],
            }
        ],
    }


def _region(image: ImageRecord, mask: MaskRecord, about: About, number: int) -> dict[str, Any]:
    name = category_name(mask, about.categories)
    return {
        "id": f"{image.id}-{number}",
        "type": "brushlabels",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "score": mask.score,
        "value": {"format": "rle", "rle": packed(mask.mask), "brushlabels": [name]},
    }
