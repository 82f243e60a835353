"""Clicks as rows beside boxes, so that one array holds all prompts of an image.

A row x0 y0 x1 y1 whose corners are one point is a click there; all others are boxes."""

from typing import Any

import numpy as np


def are_clicks(rows: Any) -> Any:
    """Tell which of the rows (..., 4) are clicks, (...); of NumPy or of torch."""
    return (rows[..., :2] == rows[..., 2:]).all(-1)


def new_clicks(
    boxes: np.ndarray, count: int, bounds: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Return rows (count, 4), float32, of clicks: one near the middle of a box, one anywhere, ...

    The first kind shows objects as users click on them, the second all that a grid of points
    meets.

    Args:
        boxes: (P, 4), one at least.
        bounds: the box, x0 y0 x1 y1, that they stay within.
    """
    chosen = boxes[random.integers(len(boxes), size=count)].reshape(-1, 4)
    middles = (chosen[:, :2] + chosen[:, 2:]) / 2
    offsets = random.uniform(-0.25, 0.25, middles.shape) * (chosen[:, 2:] - chosen[:, :2])
    points = np.clip(middles + offsets, bounds[:2], bounds[2:])
    anywhere = random.uniform(bounds[:2], bounds[2:], points.shape)
    points[1::2] = anywhere[1::2]
    return np.tile(points, 2).astype(np.float32)
