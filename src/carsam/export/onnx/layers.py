"""Linear layers, and products of codes."""

import numpy as np

from carsam.export.onnx.arithmetic import activate
from carsam.export.onnx.graph import Graph
from carsam.export.onnx.grids import Coded, Tensor, quantized, rounded, values_of
from carsam.runtime.centred import AnyLinear, Centred
from carsam.runtime.decoder import FeedForward
from carsam.runtime.input_grids import GroupedLinear, ListedLinear
from carsam.runtime.layers import Linear
from carsam.runtime.matrices import PackedMatrix

LARGEST_PAIR = (1 << 15) - 1
"""What 16 bits hold. Without VNNI, ONNX Runtime adds two products of uint8 and int8 in them."""


def fit_signed(left_bits: int, right_bits: int) -> bool:
    """Tell whether products of codes may take int8 on the right, which is five times as fast."""
    return 2 * ((1 << left_bits) - 1) * (1 << (right_bits - 1)) <= LARGEST_PAIR


def integer_product(graph: Graph, left: Coded, right: Coded) -> str:
    """Return left @ right in units of both scales: exact integers, as float32."""
    product = graph("MatMulInteger", left.codes, right.codes, left.zero, right.zero)
    return graph.cast(product, np.float32)


def linear(graph: Graph, tensor: Tensor, layer: Linear, path: str) -> str:
    """Return x W^T + bias for (rows, inputs): (rows, outputs).

    Args:
        path: of the layer in the model; names the weight in the file.
    """
    if isinstance(layer, GroupedLinear):
        product = _grouped(graph, values_of(graph, tensor), layer, path)
    elif isinstance(layer, ListedLinear):
        inputs = rounded(graph, values_of(graph, tensor), layer.listed)
        product = _float_product(graph, inputs, layer.weight, path, np.float64)
    else:
        tensor = quantized(graph, tensor, layer.input)
        if isinstance(tensor, Coded) and isinstance(layer.weight, PackedMatrix):
            product = _coded_product(graph, tensor, layer.weight, path)
        else:
            product = _float_product(graph, values_of(graph, tensor), layer.weight, path)
    return product if layer.bias is None else graph("Add", product, layer.bias)


def tokens_linear(
    graph: Graph, values: str, layer: AnyLinear, path: str, positions: str | None = None
) -> str:
    """Return what a layer of the two-way transformer makes of tokens (T, inputs).

    Args:
        positions: (T, inputs), that the values are the sum with, if they are.
    """
    if isinstance(layer, Linear):
        return linear(graph, values, layer, path)
    if isinstance(layer, Centred):
        if layer.means is None:
            assert positions is not None and layer.weight is not None
            left = graph("Sub", values, positions)
            table = _of_places(graph, positions, layer.weight)
        else:
            left, table = graph("Sub", values, layer.means), table_rows(graph, layer.table)
    else:
        left = graph("Sub", values, _by_token(graph, values, layer.means))
        table = _by_token(graph, values, layer.table)
    return graph("Add", linear(graph, left, layer.layer, path), table)


def table_rows(graph: Graph, table: np.ndarray) -> str:
    """Return a table (T, columns), whose different rows are stored once."""
    rows, places = np.unique(table, axis=0, return_inverse=True)
    if len(rows) == len(table):
        return graph.constant(table)
    return graph("Gather", rows, places.astype(np.int32).ravel(), axis=0)


def _of_places(graph: Graph, positions: str, weight: np.ndarray) -> str:
    """Return what a weight makes of positions, summed in float64 as `Weights.tokens_linear` does.

    It is computed on loading the file: weights take a fraction of the table's size.
    """
    exact = graph.constant(weight.T.astype(np.float64))
    product = graph("MatMul", graph.cast(positions, np.float64), exact)
    return graph.cast(product, np.float32)


def _by_token(graph: Graph, tokens: str, rows: np.ndarray) -> str:
    """Return the row of each of the tokens (T, C), the last for all beyond: (T, columns)."""
    first, one = np.array(0, np.int64), np.array(1, np.int64)
    count = graph("Squeeze", graph("Shape", tokens, start=0, end=1))
    places = graph("Min", graph("Range", first, count, one), np.array(len(rows) - 1, np.int64))
    return graph("Gather", rows, places, axis=0)


def feed_forward(graph: Graph, values: str, network: FeedForward, path: str) -> str:
    """Return what linear layers with ReLU between them make of (rows, channels)."""
    last = len(network.layers) - 1
    for index, layer in enumerate(network.layers):
        values = linear(graph, values, layer, f"{path}.{index}")
        if index < last:
            values = activate(graph, values, "relu")
    return values


def _coded_product(graph: Graph, tensor: Coded, weight: PackedMatrix, path: str) -> str:
    """Return codes (rows, K) times weight codes, scaled: (rows, N)."""
    signed = fit_signed(tensor.grid.bits, weight.bits)
    offset, dtype = (weight.offset, np.int8) if signed else (0, np.uint8)
    codes = _weight_codes(graph, weight, path, dtype, offset)
    zero = (weight.zero_point.astype(np.int16) - offset).astype(dtype)
    product = graph("MatMulInteger", tensor.codes, graph.transpose(codes, 1, 0), tensor.zero, zero)
    scale = np.float32(tensor.grid.scale) * weight.scale
    return graph("Mul", graph.cast(product, np.float32), scale)


def _grouped(graph: Graph, values: str, layer: GroupedLinear, path: str) -> str:
    """Return the product with a grid per group of columns: one integer product per group."""
    grids = layer.grouped.column_grids
    scaled = graph("Mul", values, grids.inverse_scale)
    zeros = grids.zero_point
    codes = graph("QuantizeLinear", scaled, np.ones(len(zeros), np.float32), zeros, axis=1)
    codes = graph("Min", codes, grids.maximum)
    if not isinstance(layer.weight, PackedMatrix):
        scales = np.array([grid.scale for grid in layer.grouped.grids], np.float32)
        steps = graph("Sub", graph.cast(codes, np.float32), zeros.astype(np.float32))
        inputs = graph("Mul", steps, scales[layer.grouped.group])
        return _float_product(graph, inputs, layer.weight, path)
    weight, total = layer.weight, ""
    for number, (columns, grid) in enumerate(layer.grouped.columns()):
        taken = Coded(graph("Gather", codes, columns.astype(np.int64), axis=1), grid)
        part = PackedMatrix.from_codes(
            weight.codes().take(columns, 1), weight.bits, weight.scale, weight.zero_point
        )
        product = _coded_product(graph, taken, part, f"{path}.{number}")
        total = graph("Add", product, total) if total else product
    return total


def _float_product(
    graph: Graph,
    values: str,
    weight: PackedMatrix | np.ndarray,
    path: str,
    dtype: type[np.generic] | None = None,
) -> str:
    """Return values times weights, summed in the type of the weight, or another."""
    if isinstance(weight, PackedMatrix):
        # Not DequantizeLinear: ONNX Runtime would round the values to 8 bits for its sake.
        codes = _weight_codes(graph, weight, path, np.float32)
        steps = graph("Sub", codes, weight.zero_point[:, None].astype(np.float32))
        matrix = graph.transpose(graph("Mul", steps, weight.scale[:, None]), 1, 0)
        dtype = dtype or np.float32
        matrix = matrix if dtype is np.float32 else graph.cast(matrix, dtype)
    else:
        dtype = dtype or weight.dtype.type
        matrix = graph.constant(weight.T.astype(dtype))
    if dtype is np.float32:
        return graph("MatMul", values, matrix)
    return graph.cast(graph("MatMul", graph.cast(values, dtype), matrix), np.float32)


def _weight_codes(
    graph: Graph, weight: PackedMatrix, path: str, dtype: type[np.generic], offset: int = 0
) -> str:
    """Return the (N, K) codes less an offset; in the file they take 4 bits each where they fit."""
    if weight.bits > 4:
        codes = weight.codes().astype(np.int16) - offset
        kept = graph.constant(codes.astype(np.int8 if offset else np.uint8))
        return kept if dtype in (np.int8, np.uint8) else graph.cast(kept, dtype)
    wide = graph.cast(graph.packed(weight.codes(), f"{path}.weight_packed"), dtype)
    return graph("Sub", wide, np.array(offset, dtype)) if offset else wide
