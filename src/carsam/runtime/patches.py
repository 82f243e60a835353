"""Rearrangements of channel-last images: patches, neighbourhoods, windows, upscaling."""

import numpy as np


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
    image, margin = pixels.reshape(size, size, -1), side // 2
    border = (margin, margin)
    padded = np.pad(image, (border, border, (0, 0)), constant_values=padding)
    result = np.empty((size, size, side, side, image.shape[2]), image.dtype)
    for y in range(side):
        for x in range(side):
            result[:, :, y, x] = padded[y : y + size, x : x + size]
    return result.reshape(size * size, -1)


def unfold_patches(rows: np.ndarray, height: int, width: int, side: int) -> np.ndarray:
    """Undo `patches`: (..., h * w, side * side * C) to (..., h * side, w * side, C)."""
    *batch, _, columns = rows.shape
    grid = rows.reshape(*batch, height, width, side, side, columns // (side * side))
    return np.ascontiguousarray(np.swapaxes(grid, -4, -3)).reshape(
        *batch, height * side, width * side, -1
    )


def window_rows(size: int, window: int, padding_row: int) -> np.ndarray:
    """Which token of a size x size image stands where in each window.

    Windows start at the top left corner; places beyond the image hold `padding_row`.

    Returns:
        (windows, window * window) int32.
    """
    count = -(-size // window)
    rows = np.full((count * window, count * window), padding_row, np.int32)
    rows[:size, :size] = np.arange(size * size, dtype=np.int32).reshape(size, size)
    return patches(rows[:, :, None], window)
