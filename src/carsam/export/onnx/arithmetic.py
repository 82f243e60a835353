"""Norms and functions: operators of ONNX, or the formulas of `carsam.runtime.functions` to the bit.

Norms follow the formula always: it costs a twentieth of the encoder's time and lets fewer codes
differ, which 4 bits amplify.
"""

import numpy as np

from carsam.export.onnx.graph import Graph
from carsam.runtime import functions
from carsam.runtime.functions import LANES
from carsam.runtime.layers import Norm

ONE, HALF = np.float32(1), np.float32(0.5)


def norm(graph: Graph, values: str, layer: Norm) -> str:
    """Normalise (rows, channels), as `carsam.runtime.reference.layer_norm`."""
    width = len(layer.weight)
    channels = np.float32(width)
    mean = graph("Div", lane_sum(graph, values, width), channels)
    centred = graph("Sub", values, mean)
    squares = lane_sum(graph, graph("Mul", centred, centred), width)
    variance = graph("Add", graph("Div", squares, channels), np.float32(layer.epsilon))
    # Not 1 / x: ONNX Runtime would turn the product with it into a division.
    inverse_deviation = graph("Reciprocal", graph("Sqrt", variance))
    scaled = graph("Mul", graph("Mul", centred, inverse_deviation), layer.weight)
    return graph("Add", scaled, layer.bias)


def activate(graph: Graph, values: str, name: str) -> str:
    """Apply an activation function, one of `carsam.runtime.functions.ACTIVATIONS`."""
    if name == "relu":
        return graph("Relu", values)
    if not graph.exact:
        return graph("Gelu", values)
    limit = functions.ERF_LIMIT
    clipped = graph("Clip", graph("Mul", values, np.float32(0.7071067811865476)), -limit, limit)
    square = graph("Mul", clipped, clipped)
    numerator = graph("Mul", clipped, polynomial(graph, square, functions.ERF_NUMERATOR))
    erf = graph("Div", numerator, polynomial(graph, square, functions.ERF_DENOMINATOR))
    return graph("Mul", graph("Mul", values, HALF), graph("Add", erf, ONE))


def exp2(graph: Graph, values: str) -> str:
    """2**x for x <= 0, as `carsam.runtime.functions.exp2`."""
    lowest = functions.LOWEST_EXPONENT
    values = graph("Max", values, lowest)
    whole = graph("Round", values)
    powers = np.ldexp(ONE, np.arange(int(lowest), 1)).astype(np.float32)
    power = look_up(graph, powers, graph("Sub", whole, lowest))
    fraction = graph("Sub", values, whole)
    return graph("Mul", polynomial(graph, fraction, functions.EXP2_COEFFICIENTS), power)


def polynomial(graph: Graph, values: str, coefficients: np.ndarray) -> str:
    """Horner's rule, highest power first."""
    result = graph("Add", graph("Mul", values, coefficients[0]), coefficients[1])
    for coefficient in coefficients[2:]:
        result = graph("Add", graph("Mul", result, values), coefficient)
    return result


def lane_sum(graph: Graph, values: str, width: int | None) -> str:
    """Sum the last axis (of length 1 afterwards), as `carsam.runtime.functions.lane_sum`.

    Args:
        values: of 2 dimensions, or of 4 where the width is not known before the model runs.
        width: of the last axis.
    """
    if width is None:
        total = _steps_of_unknown_number(graph, values)
    else:
        if width % LANES:
            padding = np.array([0, -width % LANES], np.int64)
            values = graph("Pad", values, padding, np.float32(0), np.array([-1], np.int64))
        steps = graph.split(values, -(-width // LANES), axis=-1)
        total = steps[0]
        for step in steps[1:]:
            total = graph("Add", total, step)
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        total = graph("Add", *graph.split(total, 2, axis=-1))
    return total


def look_up(graph: Graph, table: np.ndarray, places: str) -> str:
    """Return table[places] for numbers that are integers.

    GatherElements of a flat tensor: ONNX Runtime's Gather takes eight times as long.
    """
    flat = graph.reshape(graph.cast(places, np.int32), -1)
    return graph("Reshape", graph("GatherElements", table, flat, axis=0), graph("Shape", places))


def _steps_of_unknown_number(graph: Graph, values: str) -> str:
    """Add the steps of 16 lanes one after another: (a, b, c, width) to (a, b, c, 16)."""
    width = graph("Gather", graph("Shape", values), np.array([3], np.int64), axis=0)
    missing = graph("Mod", graph("Neg", width), np.array([LANES], np.int64))
    padding = graph("Concat", np.array([0], np.int64), missing, axis=0)
    padded = graph("Pad", values, padding, np.float32(0), np.array([-1], np.int64))
    running = graph("CumSum", graph.reshape(padded, 0, 0, 0, -1, LANES), np.int64(3))
    return graph("Gather", running, np.int64(-1), axis=3)
