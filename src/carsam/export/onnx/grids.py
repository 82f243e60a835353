"""From values to codes and back."""

from dataclasses import dataclass

import numpy as np

from carsam.export.onnx.arithmetic import look_up
from carsam.export.onnx.graph import Graph
from carsam.runtime.grids import CodeGrid
from carsam.runtime.tables import CodeTable


@dataclass(frozen=True)
class Coded:
    """A tensor of codes.

    Args:
        codes: name of the uint8 tensor, or int8, of codes less `offset`.
        grid: that they lie on.
        offset: 0 if they are uint8, else half the number of codes.
    """

    codes: str
    grid: CodeGrid
    offset: int = 0

    @property
    def zero(self) -> np.generic:
        """The code of the value 0."""
        return (np.int8 if self.offset else np.uint8)(self.grid.zero_point - self.offset)

    def steps(self, graph: Graph) -> str:
        """Return the codes less that of 0, float32."""
        return graph("Sub", graph.cast(self.codes, np.float32), np.float32(self.zero))

    def renamed(self, codes: str) -> "Coded":
        """Return other codes on the same grid."""
        return Coded(codes, self.grid, self.offset)


Tensor = str | Coded
"""What flows between layers: the name of float32 values, or codes on a grid."""


def quantized(graph: Graph, tensor: Tensor, grid: CodeGrid | None, signed: bool = False) -> Tensor:
    """Round values to a grid, if there is one.

    Args:
        signed: as int8 rather than uint8.
    """
    if isinstance(tensor, Coded) or grid is None:
        return tensor
    # QuantizeLinear with the scale itself would divide, which gives other codes now and then.
    return codes_of(graph, graph("Mul", tensor, grid.inverse_scale), grid, signed)


def codes_of(graph: Graph, scaled: str, grid: CodeGrid, signed: bool = False) -> Coded:
    """Round values, divided by the scale already, to codes: clamp(round(x) + z), ties to even."""
    found = Coded("", grid, 1 << (grid.bits - 1) if signed else 0)
    if not grid.tables:
        codes = graph("QuantizeLinear", scaled, np.float32(1), found.zero)
        if grid.bits == 8:
            return found.renamed(codes)
        dtype = type(found.zero)
        ends = dtype(-found.offset), dtype(grid.maximum - found.offset)
        return found.renamed(graph("Clip", codes, *ends))
    codes = graph("QuantizeLinear", scaled, np.float32(1), np.uint8(grid.zero_point))
    ((_, table),) = grid.tables
    entries = table[np.minimum(np.arange(256), grid.maximum)].astype(np.int16) - found.offset
    return found.renamed(look_up(graph, entries.astype(type(found.zero)), codes))


def values_of(graph: Graph, tensor: Tensor) -> str:
    """Return a tensor as float32 values."""
    if isinstance(tensor, str):
        return tensor
    return graph("Mul", tensor.steps(graph), np.float32(tensor.grid.scale))


def rounded(graph: Graph, values: str, table: CodeTable) -> str:
    """Round float32 values to the nearest listed value, halfway to the lower.

    The code is found by bisection, one bit after another.
    """
    listed, middles, bits = table.padded
    code = None
    for level in range(bits):
        thresholds = middles[(1 << (bits - 1 - level)) - 1 :: 1 << (bits - level)]
        threshold = thresholds[0] if code is None else look_up(graph, thresholds, code)
        bit = graph.cast(graph("Greater", values, threshold), np.int32)
        code = bit if code is None else graph("Add", graph("Add", code, code), bit)
    assert code is not None
    return look_up(graph, listed, code)
