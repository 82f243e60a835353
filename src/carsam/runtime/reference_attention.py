"""Attention in codes, plain numpy: what the C++ kernel must compute, to the bit."""

import numpy as np

from carsam.runtime.functions import LANES, LOG2_E, exp2, lane_sum
from carsam.runtime.geometry import RelativePositions, TokenMap
from carsam.runtime.grids import CodeGrid, Codes, Tensor, values_of
from carsam.runtime.matrices import integer_product
from carsam.runtime.reference import quantize
from carsam.runtime.softmax_grids import RowMaximumCodes, SoftmaxGrid, depths
from carsam.runtime.sums import check_attention, grid_of
from carsam.runtime.tables import CodeTable

INTEGERS = CodeGrid(np.float32(1), 0, 8)
"""Of codes that stand for themselves."""

QUERY_BLOCK = 256
"""Queries of one head whose scores exist at a time."""


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: TokenMap,
    heads: int,
    scaling: float,
    probabilities: SoftmaxGrid | None,
    relative: RelativePositions | None = None,
    output: CodeGrid | None = None,
) -> np.ndarray:
    """softmax(scaling * q k^T + relative positions) v, per head and group of tokens.

    A product of two coded operands runs in integers, any other in float32.

    Args:
        query, key, value: (rows, heads * head_dim); a group's rows are picked by `tokens`.
        scaling: factor of q k^T, usually head_dim ** -0.5.
        probabilities: grid of the softmax's result; float32 without.
        relative: positions that add to the scores; needs groups of size * size tokens.
        output: grid of the result; float32 without.

    Returns:
        (tokens.outputs, heads * head_dim) float32 or uint8; every row is some query's.

    Raises:
        UnsupportedError: the keys, or the channels of a head, are too many for sums in 32 bits.
    """
    head_dim, keys_each = query.shape[1] // heads, tokens.key_rows.shape[1]
    check_attention(
        grid_of(query), grid_of(key), probabilities, grid_of(value), head_dim, keys_each
    )
    dtype = np.float32 if output is None else np.uint8
    result = np.zeros((tokens.outputs, query.shape[1]), dtype)
    for query_rows, key_rows, output_rows in zip(
        tokens.query_rows, tokens.key_rows, tokens.output_rows, strict=True
    ):
        used = np.flatnonzero(query_rows >= 0)
        for head in range(heads):
            columns = slice(head * head_dim, (head + 1) * head_dim)
            keys, values = _rows(key, key_rows, columns), _rows(value, key_rows, columns)
            for start in range(0, len(used), QUERY_BLOCK):
                positions = used[start : start + QUERY_BLOCK]
                queries = _rows(query, query_rows[positions], columns)
                logits = _logits(queries, keys, positions, scaling, relative)
                attended = _attended(
                    logits,
                    _transposed(values),
                    relative.size if relative else 0,
                    probabilities,
                )
                if output is not None:
                    attended = quantize(attended, output)
                result[output_rows[positions], columns] = attended
    return result


def _logits(
    queries: Tensor,
    keys: Tensor,
    positions: np.ndarray,
    scaling: float,
    relative: RelativePositions | None,
) -> np.ndarray:
    """Scores in units of log 2, so that softmax is a power of two: (queries, keys) float32."""
    logits = _scaled_product(queries, keys, scaling * LOG2_E)
    if relative is None:
        return logits
    size = relative.size
    by_row = _relative_scores(queries, relative.rows, positions // size, size)
    by_column = _relative_scores(queries, relative.columns, positions % size, size)
    bias = by_row[:, :, None] + by_column[:, None, :]  # (queries, key rows, key columns)
    return logits + bias.reshape(logits.shape)


def _relative_scores(
    queries: Tensor, table: np.ndarray, coordinates: np.ndarray, size: int
) -> np.ndarray:
    """q . table of each query and key coordinate, in units of log 2: (queries, size) float32."""
    if isinstance(queries, Codes):
        numbers = queries.array - np.float32(queries.grid.zero_point)
        unit = np.float32(float(queries.grid.scale) * LOG2_E)
    else:
        numbers, unit = queries, np.float32(LOG2_E)
    picked = (size - 1 - coordinates)[:, None] + np.arange(size)
    scores = np.zeros(picked.shape, np.float32)
    for channel in range(numbers.shape[1]):
        scores += numbers[:, channel, None] * table[channel][picked]
    return scores * unit


def _attended(
    logits: np.ndarray, values: Tensor, row_length: int, grid: SoftmaxGrid | None
) -> np.ndarray:
    """What queries get, (queries, head_dim) float32.

    Args:
        logits: (queries, keys) float32, in units of log 2.
        values: (head_dim, keys).
        row_length: of the image's rows that the keys make up; 0 without.
        grid: of the probabilities.
    """
    if isinstance(grid, RowMaximumCodes):
        return _relative_product(logits, values, grid)
    powers = exp2(logits - logits.max(axis=1, keepdims=True))
    total = _row_sums(powers, row_length)
    if not isinstance(grid, CodeGrid):
        shares = powers * (np.float32(1) / total)
        return (
            _scaled_product(shares, values, 1.0)
            if grid is None
            else _listed_product(shares, values, grid)
        )
    zero = np.float32(grid.zero_point)
    scaled = np.rint(powers * (grid.inverse_scale / total))
    codes = (np.minimum(scaled, grid.maximum - zero) + zero).astype(np.uint8)
    return _scaled_product(Codes(codes, grid), values, 1.0)


def _row_sums(powers: np.ndarray, row_length: int) -> np.ndarray:
    """Sums (queries, 1), in lanes that begin anew with every row of the image."""
    rows = powers.reshape(len(powers), -1, row_length or powers.shape[1])
    padded = np.pad(rows, ((0, 0), (0, 0), (0, -rows.shape[2] % LANES)))
    return lane_sum(padded.reshape(len(powers), -1))[:, None]


def _relative_product(logits: np.ndarray, values: Tensor, grid: RowMaximumCodes) -> np.ndarray:
    """sum_j n_j v_j / sum_j n_j, n_j being the numerator of logit j."""
    numerators = grid.by_depth[depths(logits)]
    sums = numerators.sum(axis=1, dtype=np.int32).astype(np.float32)[:, None]
    if not isinstance(values, Codes):
        return numerators.astype(np.float32) @ values.T / sums
    return _integers(Codes(numerators, INTEGERS), values) * (np.float32(values.grid.scale) / sums)


def _listed_product(shares: np.ndarray, values: Tensor, grid: CodeTable) -> np.ndarray:
    """sum_j p_j v_j, p_j being the listed value nearest to share j.

    Value codes are added up in integers for every code of the shares, then weighed in float64, so
    that the simulation may add them up in another order.
    """
    codes = grid.codes(shares)
    if not isinstance(values, Codes):
        return grid.values[codes] @ values.T
    total = np.zeros((len(codes), len(values.array)))
    for code, value in enumerate(grid.values.astype(np.float64)):
        total += value * _integers(Codes((codes == code).astype(np.uint8), INTEGERS), values)
    return total.astype(np.float32) * np.float32(values.grid.scale)


def _scaled_product(left: Tensor, right: Tensor, factor: float) -> np.ndarray:
    """factor * left @ right.T: (M, K) and (N, K) to (M, N) float32."""
    if not (isinstance(left, Codes) and isinstance(right, Codes)):
        product = values_of(left) @ values_of(right).T
        return product if factor == 1.0 else product * np.float32(factor)
    unit = float(left.grid.scale) * float(right.grid.scale) * factor
    return _integers(left, right) * np.float32(unit)


def _integers(left: Codes, right: Codes) -> np.ndarray:
    """left @ right.T in units of both scales: exact integers, as float32."""
    total = integer_product(left.array, right.array).astype(np.int64)
    left_sums = left.array.sum(axis=1, dtype=np.int64)[:, None]
    right_sums = right.array.sum(axis=1, dtype=np.int64)
    left_zero, right_zero = left.grid.zero_point, right.grid.zero_point
    total -= right_zero * left_sums + left_zero * right_sums
    total += left.shape[1] * left_zero * right_zero
    return total.astype(np.float32)


def _rows(tensor: Tensor, rows: np.ndarray, columns: slice) -> Tensor:
    if isinstance(tensor, Codes):
        return Codes(tensor.array[rows, columns], tensor.grid)
    return tensor[rows, columns]


def _transposed(tensor: Tensor) -> Tensor:
    if isinstance(tensor, Codes):
        return Codes(tensor.array.T, tensor.grid)
    return tensor.T
