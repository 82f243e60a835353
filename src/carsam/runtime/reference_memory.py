"""Plain numpy operators of a video's memory: what each C++ kernel must compute, to the bit."""

import numpy as np

from carsam.runtime.grids import Codes
from carsam.runtime.matrices import PackedMatrix
from carsam.runtime.patches import shifted


def rotate(
    values: np.ndarray,
    cells: np.ndarray,
    cosines: np.ndarray,
    sines: np.ndarray,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """Turn pairs of neighbouring columns by the angles of a cell: rotary positions.

    (x, y) becomes (x cos - y sin, y cos + x sin), in float32 and rounded after every operation.
    Su et al., RoFormer (arXiv 2104.09864), equation 34.

    Args:
        values: (rows, heads * 2 * pairs) float32; all heads turn alike.
        cells: (rows,) int32 of each row, -1 for one that is not turned.
        cosines, sines: (cells, pairs) float32.
        into: array for the result; may be the values.
    """
    result = np.empty_like(values) if into is None else into
    if result is not values:
        result[:] = values
    turned, pairs = np.flatnonzero(cells >= 0), cosines.shape[1]
    heads = values[turned].reshape(len(turned), values.shape[1] // (2 * pairs), pairs, 2)
    x, y = heads[..., 0], heads[..., 1]
    cosine, sine = (table[cells[turned], None] for table in (cosines, sines))
    made = np.stack([x * cosine - y * sine, y * cosine + x * sine], axis=-1)
    result[turned] = made.reshape(len(turned), values.shape[1])
    return result


def depthwise(tensor: Codes, weight: PackedMatrix, bias: np.ndarray | None = None) -> np.ndarray:
    """Convolve every channel of an image of codes by itself, in integers, plus bias.

    The stride is 1; beyond the border the image is 0, so that the result has its size. The exact
    integer, of codes less their zero points, is scaled once by both scales.

    Args:
        tensor: (height, width, channels) codes.
        weight: (channels, side * side), rows of squares of an odd side.
        bias: (channels,) float32.

    Returns:
        (height, width, channels) float32.
    """
    steps = tensor.array.astype(np.int32) - tensor.grid.zero_point
    weights = signed_weights(weight)
    total = np.zeros(steps.shape, np.int32)
    for part, taps in zip(shifted(steps, round(len(weights) ** 0.5)), weights, strict=True):
        total += part * taps
    product = total.astype(np.float32) * (np.float32(tensor.grid.scale) * weight.scale)
    return product if bias is None else product + bias


def signed_weights(weight: PackedMatrix) -> np.ndarray:
    """Return codes less their zero point, tap by tap: (columns, rows) int32."""
    steps = weight.codes().astype(np.int32) - weight.zero_point[:, None]
    return np.ascontiguousarray(steps.T)
