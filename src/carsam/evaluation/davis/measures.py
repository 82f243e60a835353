"""Region similarity J and contour accuracy F of one mask.

Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR
2016, section 5; outlines, disk and empty masks as in the DAVIS challenge's evaluation of 2017.
"""

from math import isqrt

import numpy as np

TOLERANCE = 0.008
"""How far outlines may be apart, relative to the image's diagonal."""


def region_similarity(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return J, the intersection over union of two masks (H, W) bool; two empty ones: 1."""
    union = np.count_nonzero(predicted | true)
    return np.count_nonzero(predicted & true) / union if union else 1.0


def contour_accuracy(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return F, the harmonic mean of the outlines' precision and recall, of masks (H, W) bool.

    A pixel of an outline is right if the other outline comes as near as `TOLERANCE`. Two masks
    without outline agree fully, 1; one of them alone not at all, 0.
    """
    radius = int(np.ceil(TOLERANCE * np.hypot(*predicted.shape)))
    predicted, true = outline(predicted), outline(true)
    if not (predicted.any() and true.any()):
        return float(predicted.any() == true.any())
    precision = np.count_nonzero(predicted & dilated(true, radius)) / np.count_nonzero(predicted)
    recall = np.count_nonzero(true & dilated(predicted, radius)) / np.count_nonzero(true)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of `mask` (H, W) that differ from their neighbour right, below or both.

    Where the image ends there is no neighbour, and so no outline.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    edges = (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1])
    edges[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edges


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """Return the pixels (H, W) within `radius` of a pixel of `mask` (H, W), as the crow flies."""
    height, width = mask.shape
    grown = np.zeros_like(mask)
    sums = np.pad(mask, ((0, 0), (radius + 1, radius))).cumsum(1, dtype=np.int32)
    columns = np.arange(width)
    for down in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        half = isqrt(radius**2 - down**2)
        within = sums[:, columns + radius + half + 1] > sums[:, columns + radius - half]
        if down >= 0:
            grown[down:] |= within[: height - down]
        else:
            grown[:down] |= within[-down:]
    return grown
