"""The operators of the modules `reference*` in C++, with the same signatures."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike

import carsam.runtime._kernels as _kernels
from carsam import threads
from carsam.runtime import reference, reference_attention
from carsam.runtime.functions import LANES, LOG2_E
from carsam.runtime.geometry import RelativePositions, TokenMap
from carsam.runtime.grids import CodeGrid, Codes, ColumnGrids, Tensor
from carsam.runtime.matrices import PackedMatrix, UpscalingWeights
from carsam.runtime.reference_memory import signed_weights
from carsam.runtime.softmax_grids import STEPS_PER_OCTAVE, TOP, RowMaximumCodes, SoftmaxGrid
from carsam.runtime.sums import check_attention
from carsam.runtime.tables import CodeTable

threads.add_pool(_kernels.set_threads)

REUSED_BYTES = 1 << 16
"""Smaller arrays come from numpy."""

ACTIVATION_NUMBERS = {None: 0, "relu": 1, "gelu": 2}


def quantize(
    values: np.ndarray,
    grid: CodeGrid | ColumnGrids,
    addend: np.ndarray | None = None,
    undone: bool = False,
) -> np.ndarray:
    """See `carsam.runtime.reference.quantize`."""
    codes = empty(values.shape, np.uint8)
    single, per_column = (grid, None) if isinstance(grid, CodeGrid) else (None, grid)
    inverse_scale, zero, highest = _column_grids(per_column, values.shape[1])
    _kernels.quantize(
        _contiguous(values),
        _optional(addend),
        undone,
        None if single is None else single.numbers,
        inverse_scale,
        zero,
        highest,
        codes,
    )
    return _finished(None, codes, grid)


def round_to_table(numbers: np.ndarray, table: CodeTable) -> np.ndarray:
    """See `carsam.runtime.reference.round_to_table`."""
    result = empty(numbers.shape)
    _kernels.round_to_table(_contiguous(numbers), table.padded, result)
    return result


def weighted_rows(values: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """See `carsam.runtime.reference.weighted_rows`."""
    result = empty((len(rows), values.shape[1]))
    _kernels.weighted_rows(
        _contiguous(values), np.ascontiguousarray(rows, np.int32), _contiguous(weights), result
    )
    return result


def layer_norm(
    values: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    epsilon: float,
    activation: str | None = None,
    output: CodeGrid | None = None,
) -> np.ndarray:
    """See `carsam.runtime.reference.layer_norm`."""
    floats, codes = _result(values.shape, output)
    _kernels.layer_norm(
        _contiguous(values),
        weight,
        bias,
        epsilon,
        ACTIVATION_NUMBERS[activation],
        floats,
        codes,
        None if output is None else output.numbers,
    )
    return _finished(floats, codes, output)


def norm_on_grids(
    values: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    epsilon: float,
    targets: Sequence[reference.Target],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """See `carsam.runtime.reference.norm_on_grids`."""
    result, outputs = empty(values.shape), _norm_outputs(values.shape, targets)
    _kernels.norm_on_grids(_contiguous(values), weight, bias, epsilon, result, outputs)
    return result, [codes for *_, codes in outputs]


def activate(
    values: np.ndarray,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """See `carsam.runtime.reference.activate`."""
    result = empty(values.shape) if into is None else into
    _kernels.activate(
        _contiguous(values), bias, ACTIVATION_NUMBERS[activation], _optional(residual), result
    )
    return result


def linear(
    tensor: Codes,
    weight: PackedMatrix,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
    output: CodeGrid | ColumnGrids | None = None,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """See `carsam.runtime.reference.linear`."""
    floats, codes = _result((len(tensor.array), weight.rows), output, into)
    _linear(tensor, weight, bias, activation, residual, floats, codes, output, None)
    return _finished(floats, codes, output)


def linear_norm_on_grids(
    tensor: Codes,
    weight: PackedMatrix,
    bias: np.ndarray | None,
    residual: np.ndarray | None,
    norm: reference.NormNumbers,
    targets: Sequence[reference.Target],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """See `carsam.runtime.reference.linear_norm_on_grids`."""
    result = empty((len(tensor.array), weight.rows))
    outputs = _norm_outputs(result.shape, targets)
    _linear(tensor, weight, bias, None, residual, result, None, None, (*norm, outputs))
    return result, [codes for *_, codes in outputs]


def _linear(
    tensor: Codes,
    weight: PackedMatrix,
    bias: np.ndarray | None,
    activation: str | None,
    residual: np.ndarray | None,
    floats: np.ndarray | None,
    codes: np.ndarray | None,
    output: CodeGrid | ColumnGrids | None,
    norm: "tuple[np.ndarray, np.ndarray, float, list[_kernels.NormOutput]] | None",
) -> None:
    columns = weight.rows
    _kernels.linear(
        tensor.array,
        tensor.grid.numbers,
        weight.packed,
        weight.bits,
        _padded(np.float32(tensor.grid.scale) * weight.scale, columns, np.float32),
        weight.padded_zero_point,
        None if bias is None else _padded(bias, columns, np.float32),
        ACTIVATION_NUMBERS[activation],
        _optional(residual),
        floats,
        codes,
        *_column_grids(output, columns),
        norm,
    )


def _norm_outputs(
    shape: tuple[int, ...], targets: Sequence[reference.Target]
) -> "list[_kernels.NormOutput]":
    return [
        (
            _optional(addend),
            undone,
            grid.numbers,
            grid.tables[0][1] if grid.tables else None,
            empty(shape, np.uint8),
        )
        for grid, addend, undone in targets
    ]


def float_product(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """See `carsam.runtime.reference.float_product`."""
    result = empty((len(values), len(weight)))
    _kernels.float_product(_contiguous(values), np.ascontiguousarray(weight), result)
    return result


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
    """See `carsam.runtime.reference_attention.attention`, which also does float operands."""
    if not (
        isinstance(query, Codes)
        and isinstance(key, Codes)
        and isinstance(value, Codes)
        and probabilities is not None
    ):
        return reference_attention.attention(
            query, key, value, tokens, heads, scaling, probabilities, relative, output
        )
    check_attention(
        query.grid,
        key.grid,
        probabilities,
        value.grid,
        query.shape[1] // heads,
        tokens.key_rows.shape[1],
    )
    floats, codes = _result((tokens.outputs, query.shape[1]), output)
    query_scale = float(query.grid.scale)
    probability_grid, numerators, table = _softmax_grid(probabilities)
    unit = LOG2_E if numerators is None else LOG2_E * STEPS_PER_OCTAVE
    scales = (
        query_scale * float(key.grid.scale) * (scaling * unit),
        probability_grid[0] * float(value.grid.scale),
        query_scale * unit,
    )
    _kernels.attention(
        query.array,
        key.array,
        value.array,
        (query.grid.numbers, key.grid.numbers, probability_grid, value.grid.numbers),
        tokens.query_rows,
        tokens.key_rows,
        tokens.output_rows,
        heads,
        scales,
        numerators,
        table,
        relative.rows if relative else None,
        relative.columns if relative else None,
        relative.size if relative else 1,
        floats,
        codes,
        None if output is None else output.numbers,
    )
    return _finished(floats, codes, output)


def rotate(
    values: np.ndarray,
    cells: np.ndarray,
    cosines: np.ndarray,
    sines: np.ndarray,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """See `carsam.runtime.reference_memory.rotate`."""
    result = empty(values.shape) if into is None else into
    places = np.ascontiguousarray(cells, np.int32)
    _kernels.rotate(_contiguous(values), places, cosines, sines, result)
    return result


def depthwise(tensor: Codes, weight: PackedMatrix, bias: np.ndarray | None = None) -> np.ndarray:
    """See `carsam.runtime.reference_memory.depthwise`."""
    result = empty(tensor.shape)
    _kernels.depthwise(
        np.ascontiguousarray(tensor.array),
        tensor.grid.zero_point,
        signed_weights(weight),
        np.float32(tensor.grid.scale) * weight.scale,
        bias,
        result,
    )
    return result


def upscaled_masks(
    image: np.ndarray,
    kernels: np.ndarray,
    weights: UpscalingWeights,
    fine: reference.FineLevels | None = None,
) -> np.ndarray:
    """See `carsam.runtime.reference.upscaled_masks`, which also does other widths."""
    prompts, masks, channels = kernels.shape
    if len(weights.norm_weight) % LANES or channels % LANES:
        return reference.upscaled_masks(image, kernels, weights, fine)
    size = round(image.shape[1] ** 0.5)
    finer, finest = (None, None) if fine is None else map(_contiguous, fine)
    result = empty((prompts, masks, 4 * size, 4 * size))
    _kernels.upscale(
        _contiguous(image),
        size,
        weights.panels1,
        weights.bias1,
        weights.norm_weight,
        weights.norm_bias,
        weights.epsilon,
        weights.panels2,
        weights.bias2,
        _contiguous(kernels),
        finer,
        finest,
        result,
    )
    return result


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """See `carsam.runtime.reference.empty`; large arrays reuse memory that others have freed."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < REUSED_BYTES:
        return np.empty(shape, dtype)
    return _kernels.empty(size).view(dtype).reshape(shape)


def _softmax_grid(
    grid: SoftmaxGrid,
) -> tuple[
    tuple[float, float, int, int], np.ndarray | None, tuple[np.ndarray, np.ndarray, int] | None
]:
    """Scale, inverse, zero point and highest code; numerators; values, middles and bits."""
    if isinstance(grid, CodeGrid):
        return grid.numbers, None, None
    if isinstance(grid, RowMaximumCodes):
        return (1.0, 1.0, 0, TOP), grid.by_depth, None
    return (1.0, 1.0, 0, (1 << grid.bits) - 1), None, grid.padded


def _column_grids(
    grid: CodeGrid | ColumnGrids | None, columns: int
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Inverse scale, zero point and highest code of every column, as padded float32."""
    if grid is None:
        return None, None, None
    if isinstance(grid, CodeGrid):
        _, *numbers = grid.numbers
        inverse_scale, zero, highest = (_repeated(number, columns) for number in numbers)
        return inverse_scale, zero, highest
    return (
        _padded(grid.inverse_scale, columns, np.float32),
        _padded(grid.zero_point, columns, np.float32),
        _padded(grid.maximum, columns, np.float32),
    )


@lru_cache(maxsize=1024)
def _repeated(number: float, columns: int) -> np.ndarray:
    """One number for each of so many columns, as padded float32; not to be changed."""
    repeated = _padded(np.full(columns, number, np.float32), columns, np.float32)
    repeated.flags.writeable = False
    return repeated


def _padded(numbers: np.ndarray, columns: int, dtype: DTypeLike) -> np.ndarray:
    """(columns,) `numbers` with zeros up to whole panels; a copy where anything must be changed."""
    if columns % LANES == 0 and numbers.dtype == dtype and numbers.flags.c_contiguous:
        return numbers
    padded = np.zeros(columns + -columns % LANES, dtype)  # `np.pad` takes ten times as long
    padded[:columns] = numbers
    return padded


def _optional(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else _contiguous(values)


def _contiguous(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)


def _result(
    shape: tuple[int, ...], output: CodeGrid | ColumnGrids | None, into: np.ndarray | None = None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """An array for float results or one for codes: `into` if it is given."""
    if into is None:
        into = empty(shape, np.float32 if output is None else np.uint8)
    return (into, None) if output is None else (None, into)


def _finished(
    floats: np.ndarray | None, codes: np.ndarray | None, output: CodeGrid | ColumnGrids | None
) -> np.ndarray:
    """The result, its codes replaced by entries where the grid is a codebook."""
    if codes is None or output is None:
        assert floats is not None
        return floats
    for columns, table in output.tables:
        _kernels.look_up(codes[:, columns], table)
    return codes
