"""Masks drawn from the box alone: what a model has to beat to have learned anything."""

from collections.abc import Callable

import numpy as np

from carsam.evaluation import masks
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.json_reading import Box
from carsam.evaluation.prompts import box_requests
from carsam.evaluation.stream import Prediction
from carsam.evaluation.warning_log import WarningLog

Shape = Callable[[Box, int, int], np.ndarray]
"""Box, height and width of the image -> mask (H, W) bool."""


def filled_box(box: Box, height: int, width: int) -> np.ndarray:
    """Return the mask (H, W) of all pixels whose centre is inside the box."""
    x0, y0, x1, y1 = box
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    return ((y0 <= y) & (y <= y1))[:, None] & ((x0 <= x) & (x <= x1))


def inscribed_ellipse(box: Box, height: int, width: int) -> np.ndarray:
    """Return the mask (H, W) of all pixels whose centre is inside the box's ellipse."""
    x0, y0, x1, y1 = box
    x = (np.arange(width) + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
    y = (np.arange(height) + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return (y**2)[:, None] + x**2 <= 1


SHAPES: dict[str, Shape] = {"box": filled_box, "ellipse": inscribed_ellipse}


def shape_predictions(data: CocoData, shape: Shape) -> list[Prediction]:
    """Return the shape in every ground-truth box, as predictions of score 1."""
    log = WarningLog()
    predictions = []
    for image in data.images:
        for request in box_requests(image, data.of_image(image.id), (), log):
            assert request.box is not None
            assert request.truth is not None
            rle = masks.encode(shape(request.box, image.height, image.width))
            iou = masks.iou(rle, request.truth)
            predictions.append(
                Prediction(
                    image.id, request.category_id, request.annotation, rle, 1.0, 1.0, iou, iou
                )
            )
    return predictions
