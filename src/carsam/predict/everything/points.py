"""Where everything mode asks: grids of points, in the image and in crops of it."""

import math

import numpy as np

CropBox = tuple[int, int, int, int]
"""x0 y0 x1 y1 in pixels, x1 and y1 not included."""


def point_grid(side: int) -> np.ndarray:
    """Return side x side points (n, 2), x then y in 0..1, row by row, in the middle of cells."""
    steps = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    x, y = np.meshgrid(steps, steps)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def layer_grids(side: int, layers: int, downscale: int) -> list[np.ndarray]:
    """Return the grid of the image and of each layer of crops, whose sides get shorter."""
    return [point_grid(int(side / downscale**layer)) for layer in range(layers + 1)]


def crop_boxes(
    size: tuple[int, int], layers: int, overlap_ratio: float
) -> list[tuple[CropBox, int]]:
    """Return the image's own box, then those of each layer of crops, with the layer's number.

    Layer i has 2^i x 2^i crops, column by column, which overlap. They are segment-anything's, but
    for those that would hold no pixel in a tiny image.

    Args:
        size: height and width of the image.
        layers: of crops; 0 for none.
        overlap_ratio: of the first layer, as a share of the image's shorter side.
    """
    height, width = size
    boxes: list[tuple[CropBox, int]] = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / count))
        crop_height, crop_width = (
            math.ceil((overlap * (count - 1) + length) / count) for length in size
        )
        for left in (index * (crop_width - overlap) for index in range(count)):
            for top in (index * (crop_height - overlap) for index in range(count)):
                if left < width and top < height:
                    right, bottom = min(left + crop_width, width), min(top + crop_height, height)
                    boxes.append(((left, top, right, bottom), layer))
    return boxes
