"""softmax(scaling q k^T + relative positions) v, with a grid, or none, per operand."""

import numpy as np

from carsam.errors import UnsupportedError
from carsam.export.onnx.arithmetic import exp2, lane_sum, look_up
from carsam.export.onnx.graph import Graph
from carsam.export.onnx.grids import Coded, Tensor, codes_of, quantized, rounded, values_of
from carsam.export.onnx.layers import fit_signed, integer_product
from carsam.runtime.functions import LANES, LOG2_E
from carsam.runtime.geometry import RelativePositions
from carsam.runtime.grids import CodeGrid
from carsam.runtime.layers import IntegerAttention
from carsam.runtime.softmax_grids import STEPS_PER_OCTAVE, RowMaximumCodes, SoftmaxGrid
from carsam.runtime.sums import keys_of_one_sum
from carsam.runtime.tables import CodeTable

LAST = np.array([-1], np.int64)

Operands = tuple[Tensor, Tensor, Tensor]
"""Query, key and value."""


def attention(
    graph: Graph,
    operands: tuple[str, str, str],
    layer: IntegerAttention,
    keys: int | None,
    by_turns: bool = False,
) -> str:
    """Let queries attend to keys within each of some groups.

    Args:
        operands: values of query, key and value, (groups, heads, tokens, channels of a head).
        keys: tokens that a query attends to; None if the number depends on the prompt.
        by_turns: one head after another, which bounds memory.

    Returns:
        Values of the shape of the query.
    """
    _check_sums(layer, keys)
    rounded_operands = _on_grids(graph, operands, layer)
    if not by_turns:
        return _attend(graph, rounded_operands, layer, keys)
    query, key, value = (_heads_of(graph, each, layer.heads) for each in rounded_operands)
    attended = [_attend(graph, head, layer, keys) for head in zip(query, key, value, strict=True)]
    return graph("Concat", *attended, axis=1)


def _check_sums(layer: IntegerAttention, keys: int | None) -> None:
    """Refuse more keys than ONNX's integer product adds up in its 32 bits."""
    if layer.probabilities is None or layer.value is None or keys is None:
        return
    most = keys_of_one_sum(layer.probabilities, layer.value)
    if keys > most:
        raise UnsupportedError(
            f"An attention has {keys} keys; ONNX adds up products of at most {most} such codes. "
            "Quantize with fewer bits, or for a smaller image."
        )


def _on_grids(graph: Graph, operands: tuple[str, str, str], layer: IntegerAttention) -> Operands:
    """Round query, key and value to their grids; the last two are right factors of a product."""
    query, key, value = operands
    return (
        quantized(graph, query, layer.query),
        quantized(graph, key, layer.key, fit_signed(_bits(layer.query), _bits(layer.key))),
        quantized(
            graph, value, layer.value, fit_signed(_bits(layer.probabilities), _bits(layer.value))
        ),
    )


def _bits(grid: SoftmaxGrid | None) -> int:
    """Return the bits of what products take of a grid."""
    return grid.bits if isinstance(grid, CodeGrid) else 8


def _heads_of(graph: Graph, tensor: Tensor, heads: int) -> list[Tensor]:
    if isinstance(tensor, Coded):
        return [tensor.renamed(part) for part in graph.split(tensor.codes, heads, axis=1)]
    return list(graph.split(tensor, heads, axis=1))


def _attend(graph: Graph, operands: Operands, layer: IntegerAttention, keys: int | None) -> str:
    query, key, value = operands
    # In exact mode scores are in units of log 2, as those of the native engine.
    unit = LOG2_E if graph.exact else 1.0
    scores = _product(graph, query, _transposed(graph, key), layer.scaling * unit)
    relative, line = layer.relative, 0
    if relative is not None:
        scores = graph("Add", scores, _position_scores(graph, query, relative, unit))
        line = relative.size
    grid = layer.probabilities
    if isinstance(grid, RowMaximumCodes):
        steps = graph("Mul", scores, np.float32(STEPS_PER_OCTAVE * LOG2_E / unit))
        return _relative_product(graph, steps, value, grid)
    if isinstance(grid, CodeGrid):
        return _product(graph, _share_codes(graph, scores, grid, keys, line), value, 1.0)
    shares = _shares(graph, scores, keys, line)
    if isinstance(grid, CodeTable):
        return _listed_product(graph, rounded(graph, shares, grid), value)
    return _product(graph, shares, value, 1.0)


def _product(graph: Graph, left: Tensor, right: Tensor, factor: float) -> str:
    """Return factor * left @ right: in integers where both are codes."""
    if isinstance(left, Coded) and isinstance(right, Coded):
        scale = float(left.grid.scale) * float(right.grid.scale) * factor
        return graph("Mul", integer_product(graph, left, right), np.float32(scale))
    product = graph("MatMul", values_of(graph, left), values_of(graph, right))
    return product if factor == 1.0 else graph("Mul", product, np.float32(factor))


def _transposed(graph: Graph, tensor: Tensor) -> Tensor:
    if isinstance(tensor, Coded):
        return tensor.renamed(graph.transpose(tensor.codes, 0, 1, 3, 2))
    return graph.transpose(tensor, 0, 1, 3, 2)


def _position_scores(graph: Graph, query: Tensor, relative: RelativePositions, unit: float) -> str:
    """Return what relative positions add to the scores of (groups, heads, size * size, d)."""
    size = relative.size
    if isinstance(query, Coded):
        numbers, unit = query.steps(graph), float(query.grid.scale) * unit
    else:
        numbers = query
    square = graph.reshape(numbers, 0, 0, size, size, relative.rows.shape[0])
    turned = graph.transpose(square, 0, 1, 3, 2, 4)
    by_row = graph("MatMul", square, _table(graph, relative.rows, size))
    by_column = graph("MatMul", turned, _table(graph, relative.columns, size))
    by_column = graph.transpose(by_column, 0, 1, 3, 2, 4)
    rows = graph("Unsqueeze", graph("Mul", by_row, np.float32(unit)), np.array([5], np.int64))
    columns = graph("Mul", by_column, np.float32(unit))
    columns = graph("Unsqueeze", columns, np.array([4], np.int64))
    return graph.reshape(graph("Add", rows, columns), 0, 0, size * size, size * size)


def _table(graph: Graph, table: np.ndarray, size: int) -> str:
    """Return (query coordinate, channel, key coordinate), which is picked on loading the file."""
    places = size - 1 - np.arange(size)[:, None] + np.arange(size)
    kept = table[:, : 2 * size - 1]
    return graph.transpose(graph("Gather", kept, places.astype(np.int32), axis=1), 1, 0, 2)


def _powers(graph: Graph, scores: str) -> str:
    """Return exp(score - largest of the row)."""
    below = graph("Sub", scores, graph("ReduceMax", scores, LAST, keepdims=1))
    return exp2(graph, below) if graph.exact else graph("Exp", below)


def _shares(graph: Graph, scores: str, keys: int | None, line: int) -> str:
    if not graph.exact:
        return graph("Softmax", scores, axis=-1)
    powers = _powers(graph, scores)
    return graph("Mul", powers, graph("Reciprocal", _row_sums(graph, powers, keys, line)))


def _share_codes(graph: Graph, scores: str, grid: CodeGrid, keys: int | None, line: int) -> Tensor:
    """Return the codes of softmax(scores)."""
    if not graph.exact:
        return quantized(graph, _shares(graph, scores, keys, line), grid)
    powers = _powers(graph, scores)
    factor = graph("Div", grid.inverse_scale, _row_sums(graph, powers, keys, line))
    return codes_of(graph, graph("Mul", powers, factor), grid)


def _row_sums(graph: Graph, powers: str, keys: int | None, line: int) -> str:
    """Sum over the keys in lanes that begin anew with every row of the image.

    Args:
        line: tokens of such a row; 0 where there are none.
    """
    if keys is None or line % LANES == 0:
        return lane_sum(graph, powers, keys)
    padding = np.array([0, -line % LANES], np.int64)
    rows = graph.reshape(powers, 0, 0, 0, keys // line, line)
    rows = graph("Pad", rows, padding, np.float32(0), LAST)
    width = keys // line * (line + -line % LANES)
    return lane_sum(graph, graph.reshape(rows, 0, 0, 0, width), width)


def _relative_product(graph: Graph, steps: str, value: Tensor, grid: RowMaximumCodes) -> str:
    """Return sum_j n_j v_j / sum_j n_j, n_j being the numerator of logit j.

    Args:
        steps: logits in units of `STEPS_PER_OCTAVE`, not rounded yet.
    """
    steps = graph("Clip", graph("Round", steps), np.float32(-(1 << 15)), np.float32((1 << 15) - 1))
    depths = graph("Sub", graph("ReduceMax", steps, LAST, keepdims=1), steps)
    depths = graph("QuantizeLinear", depths, np.float32(1), np.uint8(0))  # at most 255
    numerators = look_up(graph, grid.by_depth, depths)
    sums = graph("ReduceSum", graph.cast(numerators, np.int32), LAST, keepdims=1)
    sums = graph.cast(sums, np.float32)
    if not isinstance(value, Coded):
        return graph("Div", graph("MatMul", graph.cast(numerators, np.float32), value), sums)
    product = integer_product(graph, Coded(numerators, CodeGrid(np.float32(1), 0, 8)), value)
    return graph("Mul", product, graph("Div", np.float32(value.grid.scale), sums))


def _listed_product(graph: Graph, shares: str, value: Tensor) -> str:
    """Return shares @ value, summed in float64 over codes and rounded once."""
    if not isinstance(value, Coded):
        return graph("MatMul", shares, value)
    steps = graph.cast(value.steps(graph), np.float64)
    total = graph("MatMul", graph.cast(shares, np.float64), steps)
    return graph("Mul", graph.cast(total, np.float32), np.float32(value.grid.scale))
