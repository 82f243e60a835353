"""Plain numpy operators: what each C++ kernel must compute, to the bit."""

import numpy as np
from numpy.typing import DTypeLike

from carsam.runtime.functions import ACTIVATIONS, lane_sum
from carsam.runtime.grids import Codes, ColumnGrids, Grid
from carsam.runtime.matrices import PackedMatrix, integer_product
from carsam.runtime.tables import TableGrid


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An array of undefined contents."""
    return np.empty(shape, dtype)


def quantize(
    values: np.ndarray, grid: Grid | ColumnGrids, addend: np.ndarray | None = None
) -> np.ndarray:
    """Return the codes (uint8) of float32 `values`: clamp(rint(value / scale) + zero_point).

    Args:
        values: (rows, columns).
        addend: (a divisor of rows, columns) float32, added first, again and again.
    """
    if addend is not None:
        values = values + _repeated(addend, len(values))
    zero = np.asarray(grid.zero_point, np.float32)
    scaled = np.rint(values * grid.inverse_scale)
    return (np.clip(scaled, -zero, grid.maximum - zero) + zero).astype(np.uint8)


def round_to_table(numbers: np.ndarray, table: TableGrid) -> np.ndarray:
    """Return float32 `numbers` (rows, columns), each replaced by the nearest value of a table."""
    return table.values[table.codes(numbers)]


def layer_norm(
    values: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    epsilon: float,
    activation: str | None = None,
    output: Grid | None = None,
) -> np.ndarray:
    """Normalise the rows of (rows, columns) float32 `values`; as codes if `output` is given."""
    columns = np.float32(values.shape[1])
    centred = values - (lane_sum(values) / columns)[:, None]
    variance = lane_sum(centred * centred) / columns
    inverse_deviation = np.float32(1) / np.sqrt(variance + np.float32(epsilon))
    result = (centred * inverse_deviation[:, None]) * weight + bias
    if activation is not None:
        result = ACTIVATIONS[activation](result)
    return result if output is None else quantize(result, output)


def activate(values: np.ndarray, bias: np.ndarray, activation: str) -> np.ndarray:
    """Return activation(values + bias) of (rows, columns) float32 `values`."""
    return ACTIVATIONS[activation](values + bias)


def linear(
    tensor: Codes,
    weight: PackedMatrix,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
    output: Grid | ColumnGrids | None = None,
) -> np.ndarray:
    """Multiply codes by packed weights in integers: activation(x W^T + bias) + residual.

    With a, w the codes and z their zero points, the exact integer
      sum_k (a - z_a)(w - z_w) = sum_k a w - z_w sum_k a - z_a sum_k w + K z_a z_w
    is scaled once by scale_a * scale_w.

    Args:
        tensor: (M, K) codes.
        weight: (N, K).
        bias: (N,) float32.
        activation: key of `carsam.runtime.functions.ACTIVATIONS`.
        residual: (a divisor of M, N) float32, added again and again.
        output: grid of the result; float32 without.

    Returns:
        (M, N) float32 or uint8.
    """
    codes, grid = tensor.array, tensor.grid
    signed, zero_w = weight.signed_codes(), weight.signed_zero_point()
    row_sums = codes.sum(axis=1, dtype=np.int32)
    column_sums = signed.sum(axis=1, dtype=np.int32)
    total = integer_product(codes, signed)
    total -= row_sums[:, None] * zero_w
    total += grid.zero_point * (weight.columns * zero_w - column_sums)
    result = total.astype(np.float32) * (np.float32(grid.scale) * weight.scale)
    if bias is not None:
        result += bias
    if activation is not None:
        result = ACTIVATIONS[activation](result)
    if residual is not None:
        result += _repeated(residual, len(result))
    return result if output is None else quantize(result, output)


def _repeated(rows: np.ndarray, count: int) -> np.ndarray:
    """`rows` again and again until there are `count`."""
    return rows if len(rows) == count else np.tile(rows, (count // len(rows), 1))
