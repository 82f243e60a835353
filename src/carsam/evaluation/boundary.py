"""Boundary IoU: the intersection over union of what lies near two masks' outlines."""

import numpy as np

WIDTH = 0.02
"""Width of the band along the outline, relative to the image's diagonal, as in the paper."""


def boundary_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Return the boundary IoU of two masks (H, W) bool; two empty masks agree fully: 1.

    Cheng et al., CVPR 2021 (arXiv 2103.16562), section 4: only pixels of a mask count that are
    within `WIDTH` of its outline. Where a mask is thinner than that, all of it counts.
    """
    first, second = inner_band(first), inner_band(second)
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def inner_band(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of `mask` (H, W) bool that are near its outline.

    Distance is the larger of the steps along rows and columns; the image's edge is an outline.
    """
    distance = max(1, round(WIDTH * float(np.hypot(*mask.shape))))
    band = np.array(mask, bool)
    rows, columns = np.flatnonzero(band.any(1)), np.flatnonzero(band.any(0))
    if len(rows):
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        band[window] &= ~_eroded(band[window], distance)
    return band


def _eroded(mask: np.ndarray, distance: int) -> np.ndarray:
    """Return where the square of `distance` around a pixel is all mask; outside there is none."""
    side = 2 * distance + 1
    sums = np.pad(mask, ((distance + 1, distance), (distance + 1, distance))).astype(np.int32)
    sums = sums.cumsum(0).cumsum(1)
    counts = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return counts == side**2
