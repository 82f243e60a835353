"""Grids of the native engine by the name that checkpoints use."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from carsam.runtime.grids import Codebook, CodeGrid
from carsam.runtime.input_grids import GroupedGrid
from carsam.runtime.softmax_grids import RowMaximumCodes
from carsam.runtime.tables import TABLES, CodeTable, read_table

AnyGrid = CodeGrid | Codebook | GroupedGrid | RowMaximumCodes | CodeTable
Description = Mapping[str, Any]
Tensors = Callable[[str], np.ndarray]


def _uniform(description: Description, tensors: Tensors) -> CodeGrid:
    scale, zero_point = tensors("scale"), tensors("zero_point")
    return CodeGrid(np.float32(scale[0]), int(zero_point[0]), int(description["bits"]))


def _codebook(description: Description, tensors: Tensors) -> Codebook:
    scale, zero_point, entries = tensors("scale"), tensors("zero_point"), tensors("entries")
    bits = max(int(entries.max()), int(zero_point[0]), 1).bit_length()
    return Codebook(np.float32(scale[0]), int(zero_point[0]), bits, entries)


def _grouped_uniform(description: Description, tensors: Tensors) -> GroupedGrid:
    pairs = zip(tensors("scale"), tensors("zero_point"), strict=True)
    bits = int(description["bits"])
    grids = tuple(CodeGrid(np.float32(scale), int(zero_point), bits) for scale, zero_point in pairs)
    return GroupedGrid(grids, tensors("group"))


def _row_maximum(description: Description, tensors: Tensors) -> RowMaximumCodes:
    return RowMaximumCodes(np.float32(tensors("scale")[0]), tensors("numerator"))


READERS: dict[str, Callable[[Description, Tensors], AnyGrid]] = {
    "uniform": _uniform,
    "codebook": _codebook,
    "grouped-uniform": _grouped_uniform,
    "row-maximum": _row_maximum,
    **dict.fromkeys(TABLES, read_table),
}
"""Each takes the manifest's entry and what returns the grid's tensor of a name."""
