"""One mask for each box of a json."""

from collections.abc import Iterator, Mapping

import numpy as np

from carsam.annotation.items import NO_PIXEL, ErrorRecord, Item, MaskRecord
from carsam.annotation.prompting.base import Ask, Found
from carsam.annotation.prompting.box_table import BoxPrompt, BoxTable, ImageBoxes
from carsam.engines.base import Engine
from carsam.errors import UserError
from carsam.evaluation.ids import Id
from carsam.evaluation.json_reading import Box
from carsam.images.decode import EncodedImage
from carsam.images.prompts import Prompts
from carsam.images.remarks import Tell
from carsam.images.run_lengths import RunLengths
from carsam.predict.predictor import SamPredictor

BOXES_AT_ONCE = 16
"""Boxes whose masks are in memory at the same time."""


class BoxPrompting:
    """Asks for the object in every box of a table, as `carsam evaluate` does."""

    def __init__(self, table: BoxTable, categories: Mapping[Id, str] | None = None) -> None:
        self._table = table
        self.identity = f"boxes {table.sha256}"
        self.categories = table.categories or categories or {}

    def request(self, item: Item) -> ImageBoxes | None:
        """Return the boxes of an image; None where the json does not have it."""
        return self._table.find(item)

    def asks(self, engine: Engine) -> Ask:
        """Return what asks an engine for a mask of every box."""
        predictor = SamPredictor(engine)

        def ask(image: EncodedImage, item: Item, request: ImageBoxes, warn: Tell) -> Found:
            predictor.set_image(image, warn=warn)
            return predictor.original_size, _masks(predictor, item, request)

        return ask


def _masks(
    predictor: SamPredictor, item: Item, request: ImageBoxes
) -> list[MaskRecord | ErrorRecord]:
    """Return a mask for every box on the image that is set, or why there is none."""
    found: list[MaskRecord | ErrorRecord] = []
    usable: list[tuple[BoxPrompt, Box]] = []
    for prompt in request.boxes:
        box = inside(prompt.box, *predictor.original_size)
        if box is None:
            reason = _fault(prompt.box, *predictor.original_size)
            found.append(ErrorRecord(request.image_id, item.name, reason, prompt.id))
        else:
            usable.append((prompt, box))
    for start in range(0, len(usable), BOXES_AT_ONCE):
        found += _predicted(predictor, item, request.image_id, usable[start:][:BOXES_AT_ONCE])
    return found


def inside(box: Box, height: int, width: int) -> Box | None:
    """Return the part of a box inside the image, None if there is none."""
    x0, y0, x1, y1 = box
    clipped = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    return clipped if clipped[0] < clipped[2] and clipped[1] < clipped[3] else None


def _fault(box: Box, height: int, width: int) -> str:
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        return f"The box at {x0:g}, {y0:g} is {x1 - x0:g} wide and {y1 - y0:g} high."
    return (
        f"The box from {x0:g}, {y0:g} to {x1:g}, {y1:g} lies outside the image, which is {width} "
        f"pixels wide and {height} high."
    )


def _predicted(
    predictor: SamPredictor, item: Item, image_id: Id, prompts: list[tuple[BoxPrompt, Box]]
) -> Iterator[MaskRecord | ErrorRecord]:
    boxes = predictor.frame.map_boxes(np.array([box for _, box in prompts], np.float32))
    masks, ious, _ = predictor.predict_prompts(Prompts(boxes=boxes), chunk=BOXES_AT_ONCE)
    if not np.isfinite(ious).all():
        raise UserError(
            "The model predicts an IoU that is not finite. Its weights are damaged; load or "
            "quantize it again."
        )
    for (prompt, _), mask, iou in zip(prompts, masks[:, 0], ious[:, 0], strict=True):
        if mask.any():
            runs, origin = RunLengths.of_mask(mask), (prompt.id, prompt.detection_score)
            yield MaskRecord(image_id, prompt.category_id, runs, float(iou), *origin)
        else:
            yield ErrorRecord(image_id, item.name, NO_PIXEL, prompt.id)
