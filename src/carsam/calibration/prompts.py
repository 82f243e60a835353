"""Boxes to calibrate the decoder with: from annotations, or found by the float model itself."""

from pathlib import Path

import numpy as np

from carsam.engines.base import Engine
from carsam.images.preprocess import preprocess
from carsam.images.prompts import Prompts
from carsam.progress import Progress, Silent

GRID_SIDE = 4
POINTS_AT_ONCE = 8
OVERLAP_LIMIT = 0.7


def annotated_boxes(
    coco_json: str | Path,
    image_folder: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Return the boxes (P, 4), x0 y0 x1 y1, of every image with an object, by its path.

    Args:
        coco_json: COCO instances json; crowds and what lies outside its image are left out.
        image_folder: folder of the images, in which the paths are; None keeps those of the json.
        progress: hears of what is left out.

    Raises:
        UserError: the file is not a COCO json, no image has a box, or none is in the folder.
    """
    from carsam.evaluation.coco_boxes import read_boxes

    boxes = read_boxes(coco_json, image_folder, progress or Silent())
    return {name: np.array(of_image) for name, of_image in boxes.items()}


def found_boxes(engine: Engine, image: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Return boxes (at most `limit`, 4) in the model's frame around what the model itself sees.

    A grid of clicks is decoded; of the masks the most confident ones that overlap little are
    kept. If nothing is found (a model with random weights, an empty image), seeded random boxes
    stand in, so that every part of the decoder is exercised.

    Args:
        engine: the float model.
        image: RGB uint8 (H, W, 3).
        limit: most boxes to return.
    """
    pixels, frame = preprocess(image, engine.framing)
    embedding = engine.encode(pixels)
    height, width = frame.input_size
    steps = (np.arange(GRID_SIDE) + 0.5) / GRID_SIDE
    points = np.stack(np.meshgrid(steps * width, steps * height), -1).reshape(-1, 1, 2)
    masks, ious = [], []
    for start in range(0, len(points), POINTS_AT_ONCE):
        chosen = points[start : start + POINTS_AT_ONCE].astype(np.float32)
        prompts = Prompts(chosen, np.ones(chosen.shape[:2], np.int64))
        logits, predicted = engine.decode(embedding, prompts, multimask_output=True)
        masks.append(logits.reshape(-1, *logits.shape[2:]) > 0)
        ious.append(predicted.reshape(-1))
    boxes = _distinct_boxes(np.concatenate(masks), np.concatenate(ious), limit)
    boxes *= engine.framing.side / masks[0].shape[-1]
    boxes = np.minimum(boxes, np.array([width, height, width, height]))
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    if len(boxes) == 0:
        boxes = _random_boxes(width, height, limit, seed)
    return boxes.astype(np.float32)


def _distinct_boxes(masks: np.ndarray, ious: np.ndarray, limit: int) -> np.ndarray:
    """Return the bounding boxes of the best masks (n, h, w), each unlike the ones before it."""
    kept: list[np.ndarray] = []
    for index in np.argsort(-ious, kind="stable"):
        rows, columns = masks[index].any(1).nonzero()[0], masks[index].any(0).nonzero()[0]
        if len(rows) == 0:
            continue
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
        if all(_overlap(box, other) < OVERLAP_LIMIT for other in kept):
            kept.append(box)
        if len(kept) == limit:
            break
    return np.array(kept).reshape(-1, 4)


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the intersection over union of two boxes."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    intersection = float(np.prod(sides.clip(min=0)))
    areas = float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]))
    return intersection / (areas - intersection)


def _random_boxes(width: int, height: int, count: int, seed: int) -> np.ndarray:
    """Return boxes (count, 4) of every size, from a tenth of the image's sides upwards."""
    random = np.random.default_rng(seed)
    sides = random.uniform(0.1, 0.9, (count, 2)) * (width, height)
    corners = random.uniform(0, 1, (count, 2)) * ((width, height) - sides)
    return np.concatenate([corners, corners + sides], axis=1)
