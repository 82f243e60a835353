"""Positions in images: Hiera's tables, sines, and angles that turn queries and keys.

They are computed in float64 and rounded once, so that all engines have the same.
"""

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


def sine_positions(side: int, channels: int, temperature: float = 10000.0) -> np.ndarray:
    """Return sines and cosines of rows, then of columns, of a square: (side * side, channels).

    Channels 2i and 2i + 1 of a half of h channels are sine and cosine of the place, which runs to
    2 pi at the last line, times temperature^(-2i / h). Float32.
    """
    half = channels // 2
    places = np.arange(1, side + 1) / side * (2 * np.pi)
    angles = places[:, None] * temperature ** (-2 * np.arange(half // 2) / half)
    line = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(side, half)
    image = np.concatenate([line.repeat(side, axis=0), np.tile(line, (side, 1))], axis=1)
    return image.astype(np.float32)


def rotary_angles(side: int, channels: int, base: float, step: float = 1.0) -> np.ndarray:
    """Return the angle of each pair of channels in each cell of a square: (side * side, pairs).

    The first half of the pairs turns by the column, the second by the row; pair i of a half of h
    channels by step base^(-2i / h) a cell. Float64.
    """
    half = channels // 2
    line = (step * np.arange(side))[:, None] * base ** (-np.arange(0, half, 2) / half)
    return np.concatenate([np.tile(line, (side, 1)), line.repeat(side, axis=0)], axis=1)


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
