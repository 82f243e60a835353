"""Masks as the polygons that annotation tools take."""

import numpy as np

from carsam.images.outlines import perimeter, simplified
from carsam.images.polygons import polygons

FINENESS = 0.001
"""Distance, as a share of an outline's length, by which it may be simplified."""

STAIRS = 0.75
"""Pixels that a slanted outline's corners may always go: steps of one pixel become a line."""

SMALLEST_PART = 0.1
"""Length of an outline, as a share of the longest one of its mask, below which it goes."""


def outlines(mask: np.ndarray, fineness: float = FINENESS) -> list[list[list[float]]]:
    """Return the outlines [[x, y], ...] of the parts of a mask (H, W) bool, the longest first."""
    parts = sorted(polygons(mask), key=perimeter, reverse=True)
    lengths = [perimeter(part) for part in parts]
    simple = [
        simplified(part, max(STAIRS, fineness * length))
        for part, length in zip(parts, lengths, strict=True)
        if length >= SMALLEST_PART * lengths[0]
    ]
    return [part for part in simple if len(part) >= 3]
