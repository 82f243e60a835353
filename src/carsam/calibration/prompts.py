"""Boxes to calibrate the decoder with: from annotations, or found by the float model itself."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from carsam.engines.base import Engine, Prompts
from carsam.errors import UserError
from carsam.images.preprocess import preprocess
from carsam.progress import Progress, Silent

GRID_SIDE = 4
POINTS_AT_ONCE = 8
OVERLAP_LIMIT = 0.7


def annotated_boxes(
    coco_json: str | Path,
    image_folder: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Return the boxes (P, 4), x0 y0 x1 y1, of every image with an object.

    A mask stands in for a box that is missing. Crowds, and boxes of which nothing lies inside the
    image, are left out.

    Args:
        coco_json: COCO instances json; objects need no mask.
        image_folder: gives the images their path in this folder, with forward slashes, and leaves
            out those that are not there; without it they have the json's.
        progress: hears of what is left out.

    Raises:
        UserError: the file is not a COCO json, no image has a box, or none is in the folder.
    """
    from carsam.evaluation.coco_entries import read_entries
    from carsam.evaluation.image_files import find_files
    from carsam.evaluation.warning_log import WarningLog

    log = WarningLog(coco_json)
    found = read_entries(coco_json, log)
    boxes = defaultdict(list)
    for entry in found.entries:
        box = None if entry.crowd else _usable_box(entry, log)
        if box is not None:
            boxes[entry.image.file_name].append(box)
    if not boxes:
        raise UserError(
            f"{coco_json} holds no object with a usable box; calibration needs prompts. "
            f"{found.summary()} {log} Give single objects with a box or a mask."
        )
    if image_folder is not None:
        files = find_files(boxes, image_folder, log)
        boxes = {file: boxes[name] for name, file in files.items()}
    log.tell(progress or Silent())
    return {name: np.array(of_image) for name, of_image in boxes.items()}


def _usable_box(entry: Any, log: Any) -> Any:
    """Return the part inside the image of an entry's box, or of the box around its mask."""
    from carsam.evaluation.coco_reading import box_of_mask
    from carsam.evaluation.prompts import usable_box

    box = box_of_mask(entry) if entry.box is None else entry.box
    if box is None:
        log.add("annotation-without-box", entry.id)
        return None
    return usable_box(box, entry.image, entry.id, log)


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
    pixels, frame = preprocess(image, engine.image_size)
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
    boxes *= engine.image_size / masks[0].shape[-1]
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
