"""Rearrangements of channel-last images: patches, neighbourhoods, windows, pooling, upscaling."""

from collections.abc import Iterator
from functools import reduce

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def patches(image: np.ndarray, side: int) -> np.ndarray:
    """Cut (..., H, W, C) into squares: (..., H/side * W/side, side * side * C), rows (y, x, c)."""
    *batch, height, width, channels = image.shape
    grid = image.reshape(*batch, height // side, side, width // side, side, channels)
    return np.ascontiguousarray(np.swapaxes(grid, -4, -3)).reshape(
        *batch, (height // side) * (width // side), side * side * channels
    )


def neighbourhoods(pixels: np.ndarray, size: int, side: int, padding: int) -> np.ndarray:
    """The side x side surroundings of each pixel of a size x size image.

    Args:
        pixels: (size * size, C).
        padding: what every channel is beyond the border.

    Returns:
        (size * size, side * side * C), rows ordered (y, x, channel).
    """
    border = (side // 2, side // 2)
    around = surroundings(pixels.reshape(size, size, -1), side, 1, (border, border), padding)
    return around.reshape(size * size, -1)


def surroundings(
    image: np.ndarray,
    side: int,
    stride: int,
    margins: tuple[tuple[int, int], tuple[int, int]],
    padding: int,
) -> np.ndarray:
    """The side x side squares of an image, each `stride` pixels from the next.

    Args:
        image: (H, W, C).
        margins: pixels that are added above and below, left and right.
        padding: what every channel of them is.

    Returns:
        (h, w, side, side, C), a view of the image with its margin.
    """
    padded = np.pad(image, (*margins, (0, 0)), constant_values=padding)
    squares = sliding_window_view(padded, (side, side), axis=(0, 1))[::stride, ::stride]
    return squares.transpose(0, 1, 3, 4, 2)


def shifted(image: np.ndarray, side: int) -> Iterator[np.ndarray]:
    """Yield an image (H, W, C) once for each place of a square of odd side around its pixels.

    Places come row by row; what is beyond the border is 0.
    """
    height, width, _ = image.shape
    border = (side // 2, side // 2)
    padded = np.pad(image, (border, border, (0, 0)))
    for y in range(side):
        for x in range(side):
            yield padded[y : y + height, x : x + width]


def largest_of_squares(rows: np.ndarray, width: int, side: int) -> np.ndarray:
    """The largest number in each side x side square, channel by channel (max pooling).

    Args:
        rows: (height * width, C), whose height and width `side` divides.

    Returns:
        (height / side * width / side, C).
    """
    image = rows.reshape(-1, side, width // side, side, rows.shape[1])
    places = [image[:, y, :, x] for y in range(side) for x in range(side)]
    largest = reduce(np.maximum, places)
    return largest.reshape(-1, rows.shape[1])


def unfold_patches(rows: np.ndarray, height: int, width: int, side: int) -> np.ndarray:
    """Undo `patches`: (..., h * w, side * side * C) to (..., h * side, w * side, C)."""
    *batch, _, columns = rows.shape
    grid = rows.reshape(*batch, height, width, side, side, columns // (side * side))
    return np.ascontiguousarray(np.swapaxes(grid, -4, -3)).reshape(
        *batch, height * side, width * side, -1
    )


def window_rows(size: tuple[int, int], window: int, padding_row: int) -> np.ndarray:
    """Which token of an image of this height and width stands where in each window.

    Windows start at the top left corner; places beyond the image hold `padding_row`.

    Returns:
        (windows, window * window) int32.
    """
    height, width = size
    padded = [-(-length // window) * window for length in size]
    rows = np.full(padded, padding_row, np.int32)
    rows[:height, :width] = np.arange(height * width, dtype=np.int32).reshape(size)
    return patches(rows[:, :, None], window)
