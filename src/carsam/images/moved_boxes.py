"""New box prompts from old ones."""

import numpy as np

LEAST_SIDE = 8.0  # pixels of the model's frame


def moved_boxes(
    boxes: np.ndarray, count: int, bounds: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Return `count` boxes, float32, near some of `boxes` (P, 4), half to twice as large.

    What they show is no object's outline, but the float model answers them, and that is what
    calibration compares with.

    Args:
        bounds: the box, x0 y0 x1 y1, that they stay within.
    """
    chosen = boxes[random.integers(len(boxes), size=count)].reshape(-1, 4)
    sides = chosen[:, 2:] - chosen[:, :2]
    middles = chosen[:, :2] + sides * random.uniform(size=sides.shape)
    stretches = np.exp2(random.uniform(-1, 1, sides.shape))
    halves = np.maximum(sides * stretches, LEAST_SIDE) / 2
    corners = np.concatenate([middles - halves, middles + halves], axis=1)
    return corners.clip(np.tile(bounds[:2], 2), np.tile(bounds[2:], 2)).astype(np.float32)
