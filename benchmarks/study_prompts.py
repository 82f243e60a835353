"""What every model is asked on an image: boxes, moved boxes, clicks, and points anywhere.

Agreement with the float model needs no right answer, so that every image gives many prompts."""

import zlib
from dataclasses import dataclass

import numpy as np

from carsam.evaluation.prompts import deepest_point
from carsam.images.moved_boxes import moved_boxes
from carsam.images.preprocess import Frame
from carsam.images.prompts import Prompts

MOVED = 3
"""Moved boxes of every object."""

POINTS = 16
"""Points of every image that lie anywhere."""

KINDS = ("box", "moved box", "click", "point")


@dataclass(frozen=True)
class Asked:
    """The prompts of one image: boxes (B, 4) and points (P, 2) in its pixels, each with its kind.

    Masks are numbered boxes first.
    """

    boxes: np.ndarray
    points: np.ndarray
    kinds: tuple[str, ...]

    def prompts(self, frame: Frame) -> tuple[Prompts | None, Prompts]:
        """Return the boxes, where there are any, and the points, in the model's frame."""
        points = frame.map_points(self.points)[:, None]
        clicks = Prompts(points, np.ones(points.shape[:2], np.int64))
        return Prompts(boxes=frame.map_boxes(self.boxes)) if len(self.boxes) else None, clicks


def ask(name: str, size: tuple[int, int], objects: list[np.ndarray]) -> Asked:
    """Return the prompts of an image.

    Args:
        name: of the image, which alone chooses the moved boxes and the points.
        size: height and width.
        objects: masks (H, W) bool.
    """
    random = np.random.default_rng(zlib.crc32(name.encode()))
    height, width = size
    boxes = np.array([_box(mask) for mask in objects], np.float32).reshape(-1, 4)
    bounds = np.array([0, 0, width, height])
    moved = [moved_boxes(box[None], MOVED, bounds, random) for box in boxes]
    clicks = np.array([deepest_point(mask) for mask in objects]).reshape(-1, 2)
    points = random.uniform((0, 0), (width - 1, height - 1), (POINTS, 2))
    counts = (len(boxes), MOVED * len(boxes), len(clicks), POINTS)
    kinds = (kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count))
    return Asked(np.concatenate([boxes, *moved]), np.concatenate([clicks, points]), tuple(kinds))


def _box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
