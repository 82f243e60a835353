"""Linear layers whose input has another grid than one uniform grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from carsam.errors import UserError
from carsam.runtime import kernels
from carsam.runtime.grids import CodeGrid, Codes, ColumnGrids, Sum, Tensor, values_of
from carsam.runtime.layers import Linear
from carsam.runtime.matrices import PackedMatrix
from carsam.runtime.tables import CodeTable


@dataclass(frozen=True)
class ListedLinear(Linear):
    """A layer whose input is rounded to listed values.

    Their products with the weight are summed in float64 and rounded once, as the simulation does.

    Args:
        listed: the grid; `input`, for codes on a uniform grid, is None.
    """

    listed: CodeTable

    def at_zero(self, output: ColumnGrids | None) -> np.ndarray:
        """The result (1, N) for a row of zeros, which the grid may not hold."""
        return self._apply(np.zeros((1, self.inputs), np.float32), None, None, output)

    def _apply(
        self,
        tensor: Tensor | Sum,
        activation: str | None,
        residual: np.ndarray | None,
        output: CodeGrid | ColumnGrids | None,
        into: np.ndarray | None = None,
    ) -> np.ndarray:
        rounded = kernels.round_to_table(values_of(tensor), self.listed)
        product = kernels.float_product(rounded, self.weight_values().astype(np.float64))
        return self._finish(product, activation, residual, output, into)


@dataclass(frozen=True)
class GroupedGrid:
    """A uniform grid for every group of columns.

    Args:
        grids: one per group.
        group: (columns,) number of each column's group.

    Raises:
        UserError: a column is in none of the groups.
    """

    grids: tuple[CodeGrid, ...]
    group: np.ndarray

    def __post_init__(self) -> None:
        if self.group.max(initial=0) >= len(self.grids):
            raise UserError(
                f"A channel belongs to group {self.group.max()} of {len(self.grids)}, counted from "
                "0. Quantize the model again."
            )

    @cached_property
    def column_grids(self) -> ColumnGrids:
        """The grid of every column."""
        return ColumnGrids(tuple((self.grids[number], 1) for number in self.group))

    def values(self, codes: np.ndarray) -> np.ndarray:
        """The numbers (rows, columns) that codes stand for, float32."""
        scale = np.array([grid.scale for grid in self.grids], np.float32)[self.group]
        return (codes - self.column_grids.zero_point.astype(np.float32)) * scale

    def columns(self) -> Iterator[tuple[np.ndarray, CodeGrid]]:
        """Yield the columns of each group that has any, and their grid."""
        for number, grid in enumerate(self.grids):
            found = np.flatnonzero(self.group == number)
            if len(found):
                yield found, grid


@dataclass(frozen=True)
class GroupedLinear(Linear):
    """A layer whose input has a grid per group of columns: one integer product per group.

    Args:
        grouped: the grid; `input`, for codes on a single grid, is None.
    """

    grouped: GroupedGrid

    @cached_property
    def _parts(self) -> tuple[tuple[np.ndarray, CodeGrid, PackedMatrix], ...]:
        """Columns, grid and weight of each group."""
        assert isinstance(self.weight, PackedMatrix)
        codes = self.weight.codes()
        numbers = self.weight.bits, self.weight.scale, self.weight.zero_point
        return tuple(
            (columns, grid, PackedMatrix.from_codes(codes.take(columns, 1), *numbers))
            for columns, grid in self.grouped.columns()
        )

    def _apply(
        self,
        tensor: Tensor | Sum,
        activation: str | None,
        residual: np.ndarray | None,
        output: CodeGrid | ColumnGrids | None,
        into: np.ndarray | None = None,
    ) -> np.ndarray:
        codes = kernels.quantize(values_of(tensor), self.grouped.column_grids)
        if not isinstance(self.weight, PackedMatrix):
            return super()._apply(self.grouped.values(codes), activation, residual, output, into)
        total = None
        for columns, grid, weight in self._parts:
            total = kernels.linear(Codes(codes.take(columns, 1), grid), weight, residual=total)
        assert total is not None
        return self._finish(total, activation, residual, output, into)
