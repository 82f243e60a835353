"""Plain numpy operators: what each C++ kernel must compute, to the bit."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from carsam.runtime.functions import ACTIVATIONS, lane_sum
from carsam.runtime.grids import CodeGrid, Codes, ColumnGrids
from carsam.runtime.matrices import PackedMatrix, UpscalingWeights, integer_product
from carsam.runtime.patches import patches, unfold_patches
from carsam.runtime.sums import MOST_COLUMNS
from carsam.runtime.tables import CodeTable

FineLevels = tuple[np.ndarray, np.ndarray]
"""Images (2 size, 2 size, C1) and (4 size, 4 size, C2) float32 that upscaled masks are added to."""

ROWS_AT_ONCE = 64
"""Rows of float64 numbers that exist at a time."""


Target = tuple[CodeGrid, np.ndarray | None, bool]
"""A grid, and what is added first; see `quantize`."""

NormNumbers = tuple[np.ndarray, np.ndarray, float]
"""Weight, bias and epsilon."""


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An array of undefined contents."""
    return np.empty(shape, dtype)


def quantize(
    values: np.ndarray,
    grid: CodeGrid | ColumnGrids,
    addend: np.ndarray | None = None,
    undone: bool = False,
) -> np.ndarray:
    """Return the codes (uint8) of float32 `values`: clamp(rint(value / scale) + zero_point).

    Where the grid is a codebook, each is replaced by the nearest entry.

    Args:
        values: (rows, columns).
        addend: (a divisor of rows, columns) float32, repeated over the rows, added first.
        undone: the addend is subtracted again.
    """
    if addend is not None:
        added = _repeated(addend, len(values))
        values = values + added - added if undone else values + added
    zero = np.asarray(grid.zero_point, np.float32)
    scaled = np.rint(values * grid.inverse_scale)
    codes = (np.clip(scaled, -zero, grid.maximum - zero) + zero).astype(np.uint8)
    for columns, table in grid.tables:
        codes[:, columns] = table[codes[:, columns]]
    return codes


def norm_on_grids(
    values: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    epsilon: float,
    targets: Sequence[Target],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the norm of (rows, columns) float32 `values`, and its codes on several grids."""
    result = layer_norm(values, weight, bias, epsilon)
    return result, [quantize(result, *target) for target in targets]


def round_to_table(numbers: np.ndarray, table: CodeTable) -> np.ndarray:
    """Return float32 `numbers` (rows, columns), each replaced by the nearest value of a table."""
    return table.values[table.codes(numbers)]


def weighted_rows(values: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return sum_t weights[i, t] * values[rows[i, t]], rounded to float32 after every term.

    Args:
        values: (N, columns) float32.
        rows: (M, taps) int32, below N.
        weights: (M, taps) float32.

    Returns:
        (M, columns) float32.
    """
    result = np.zeros((len(rows), values.shape[1]), np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        for tap in range(rows.shape[1]):
            products = values[rows[part, tap]] * weights[part, tap, None].astype(np.float64)
            result[part] = products + result[part]
    return result


def layer_norm(
    values: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    epsilon: float,
    activation: str | None = None,
    output: CodeGrid | None = None,
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


def activate(
    values: np.ndarray,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """Return activation(values + bias) + residual, float32.

    Args:
        values: (M, N) float32.
        bias: (N,) float32.
        activation: key of `carsam.runtime.functions.ACTIVATIONS`.
        residual: (a divisor of M, N) float32, repeated over the rows.
        into: array for the result; may be the values or the residual.
    """
    result = values if bias is None else values + bias
    if activation is not None:
        result = ACTIVATIONS[activation](result)
    if residual is not None:
        result = result + _repeated(residual, len(result))
    return _into(result, into)


def float_product(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return values weight^T as float32, summed in the type of the weight, in any order.

    Args:
        values: (M, K) float32.
        weight: (N, K) float32 or float64.
    """
    return (values.astype(weight.dtype) @ weight.T).astype(np.float32)


def linear(
    tensor: Codes,
    weight: PackedMatrix,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
    output: CodeGrid | ColumnGrids | None = None,
    into: np.ndarray | None = None,
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
        residual: (a divisor of M, N) float32, repeated over the rows.
        output: grid of the result; float32 without.
        into: array for the result; may be the residual.

    Returns:
        (M, N) float32 or uint8.

    Raises:
        ValueError: the columns are too many for sums in 32 bits.
    """
    if weight.columns > MOST_COLUMNS:
        raise ValueError(f"{weight.columns} columns; expected at most {MOST_COLUMNS}.")
    codes, grid = tensor.array, tensor.grid
    signed, zero_w = weight.signed_codes(), weight.signed_zero_point()
    row_sums = codes.sum(axis=1, dtype=np.int32)
    column_sums = signed.sum(axis=1, dtype=np.int32)
    total = integer_product(codes, signed)
    total -= row_sums[:, None] * zero_w
    total += grid.zero_point * (weight.columns * zero_w - column_sums)
    product = total.astype(np.float32) * (np.float32(grid.scale) * weight.scale)
    result = activate(product, bias, activation, residual)
    return _into(result if output is None else quantize(result, output), into)


def linear_norm_on_grids(
    tensor: Codes,
    weight: PackedMatrix,
    bias: np.ndarray | None,
    residual: np.ndarray | None,
    norm: NormNumbers,
    targets: Sequence[Target],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the norm of what a layer makes, and its codes on several grids.

    See `linear` and `norm_on_grids`.
    """
    return norm_on_grids(linear(tensor, weight, bias, residual=residual), *norm, targets)


def upscaled_masks(
    image: np.ndarray,
    kernels: np.ndarray,
    weights: UpscalingWeights,
    fine: FineLevels | None = None,
) -> np.ndarray:
    """Upscale image tokens four times and multiply every pixel by each mask's kernel.

    Two transposed convolutions of side and stride 2 make 4 x 4 pixels of every token. The only
    operator whose float products are rounded as the machine does it: to 1e-6 of their magnitude.

    Args:
        image: (P, size * size, C) float32.
        kernels: (P, M, C2) float32.
        fine: added behind the first convolution and behind the second, before GELU.

    Returns:
        (P, M, 4 * size, 4 * size) float32.
    """
    size, channels = round(image.shape[1] ** 0.5), len(weights.norm_weight)
    ordered = (0, 0) if fine is None else ordered_levels(*fine)
    masks = [
        unfold_masks(kernel @ _upscaled(tokens, channels, weights, *ordered).T, size)
        for tokens, kernel in zip(image, kernels, strict=True)
    ]
    return np.stack(masks)


def unfold_masks(masks: np.ndarray, size: int) -> np.ndarray:
    """Order the pixels of (M, 16 * size * size) masks: (M, 4 * size, 4 * size).

    The 16 pixels of a token stand together, ordered (y1, x1, y2, x2) by the two convolutions.
    """
    tokens = masks.reshape(len(masks), size * size, 16)
    doubled = unfold_patches(tokens, size, size, 2).reshape(len(masks), -1, 4)
    return unfold_patches(doubled, 2 * size, 2 * size, 2)[..., 0]


def ordered_levels(finer: np.ndarray, finest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring the pixels of an image into the order in which upscaling makes them.

    Returns:
        (size * size, 4 * C1) and (4 * size * size, 4 * C2).
    """
    squares = patches(finest, 2).reshape(*finer.shape[:2], -1)  # (y1, x1) of the whole image
    return patches(finer, 2), patches(squares, 2).reshape(-1, squares.shape[-1])


def _upscaled(
    tokens: np.ndarray,
    channels: int,
    weights: UpscalingWeights,
    finer: np.ndarray | int,
    finest: np.ndarray | int,
) -> np.ndarray:
    """(16 * tokens, C2)."""
    doubled = (tokens @ weights.weight1.T + weights.bias1 + finer).reshape(-1, channels)
    norm = weights.norm_weight, weights.norm_bias, weights.epsilon
    hidden = layer_norm(doubled, *norm, "gelu")
    pixels = activate(hidden @ weights.weight2.T + weights.bias2 + finest, activation="gelu")
    return pixels.reshape(16 * len(tokens), -1)


def _into(result: np.ndarray, into: np.ndarray | None) -> np.ndarray:
    """Copy to the array that was asked for, if any."""
    if into is None:
        return result
    into[:] = result
    return into


def _repeated(rows: np.ndarray, count: int) -> np.ndarray:
    """`rows` repeated until there are `count`."""
    return rows if len(rows) == count else np.tile(rows, (count // len(rows), 1))
