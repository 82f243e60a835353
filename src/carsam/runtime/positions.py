"""Hiera's positions: a small table enlarged over the image, and one that every window repeats."""

import numpy as np

SHARPNESS = -0.75
"""a of the cubic kernel (Keys, 1981), as torch takes it for `bicubic`."""

LINES_AT_ONCE = 32
"""Lines of the image whose float64 numbers exist at a time."""


def image_positions(background: np.ndarray, window: np.ndarray, side: int) -> np.ndarray:
    """Return the positions (side * side, C) float32 of a square image.

    Args:
        background: (C, n, m), enlarged with the bicubic filter.
        window: (C, k, k), repeated; k divides `side`.

    The sums are in float64 and rounded once, so that they do not depend on their order.
    """
    channels, height, width = background.shape
    rows, columns = (bicubic_filter(length, side) for length in (height, width))
    wide = columns @ background.transpose(1, 2, 0).astype(np.float64)  # (n, side, C)
    repeats = side // window.shape[1]
    result = np.tile(window.transpose(1, 2, 0).astype(np.float32), (repeats, repeats, 1))
    for first in range(0, side, LINES_AT_ONCE):
        lines = slice(first, first + LINES_AT_ONCE)
        enlarged = rows[lines] @ wide.reshape(height, -1)
        result[lines] += enlarged.reshape(-1, side, channels).astype(np.float32)
    return result.reshape(side * side, channels)


def bicubic_filter(source: int, target: int) -> np.ndarray:
    """Return the bicubic filter from source to target pixels, (target, source) float64.

    Pixel centres are aligned (`align_corners=False`); beyond the border the last pixel counts.
    """
    places = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(places)
    matrix = np.zeros((target, source))
    for tap in (-1, 0, 1, 2):
        pixels = (first.astype(int) + tap).clip(0, source - 1)
        matrix[np.arange(target), pixels] += _cubic(abs(places - first - tap))
    return matrix


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Return the kernel's weight at distances (n,) below 2."""
    a, x = SHARPNESS, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)
