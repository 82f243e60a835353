"""Grids of activations, and arrays of codes that know theirs."""

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import accumulate

import numpy as np

from carsam.errors import UserError


@dataclass(frozen=True)
class CodeGrid:
    """The uniform grid of one activation tensor: value(code) = (code - zero_point) * scale.

    Args:
        scale: float32, above 0.
        zero_point: integer, 0 to 2**bits - 1.
        bits: 1 to 8.

    Raises:
        UserError: a number is outside its range.
    """

    scale: np.float32
    zero_point: int
    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise UserError(
                f"A grid of {self.bits} bits; expected 1 to 8. Quantize the model again."
            )
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise UserError(f"A grid of scale {self.scale}; expected a finite scale above 0.")
        if not 0 <= self.zero_point <= self.maximum:
            raise UserError(
                f"Zero point {self.zero_point} of a {self.bits}-bit grid; "
                f"expected 0 to {self.maximum}."
            )

    @property
    def maximum(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @cached_property
    def inverse_scale(self) -> np.float32:
        """1 / scale, rounded to float32: what values are multiplied by."""
        return np.float32(1) / np.float32(self.scale)

    @cached_property
    def numbers(self) -> tuple[float, float, int, int]:
        """Scale, its inverse, zero point and largest code, as the kernels read them."""
        return float(self.scale), float(self.inverse_scale), self.zero_point, self.maximum

    @property
    def tables(self) -> "tuple[ColumnTable, ...]":
        """What codes are replaced by once values are rounded to them: nothing."""
        return ()


@dataclass(frozen=True)
class Codebook(CodeGrid):
    """A uniform grid of which only the entries are used; see `carsam.grids.codebook`.

    A value's code is the entry nearest to the code of the uniform grid, halfway the lower.

    Args:
        bits: of the uniform grid; as few as hold the entries, for products are the faster then.
        entries: (1 to 256,) uint8, ascending, the zero point among them.

    Raises:
        UserError: the entries are not of this form.
    """

    entries: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        ascending = bool((self.entries[1:] >= self.entries[:-1]).all())
        if not ascending or self.zero_point not in self.entries or self.entries[-1] > self.maximum:
            raise UserError(
                f"A codebook of entries {self.entries.tolist()}; expected them to ascend, and zero "
                f"point {self.zero_point} among them. Quantize the model again."
            )

    @cached_property
    def tables(self) -> "tuple[ColumnTable, ...]":
        """The entry nearest to each code."""
        doubled = self.entries.astype(np.int32)
        middles = doubled[1:] + doubled[:-1]
        table = self.entries[np.searchsorted(middles, 2 * np.arange(256))]
        return ((slice(None), table),)


@dataclass(frozen=True)
class ColumnGrids:
    """One grid per column of a matrix: neighbouring tensors that one product makes.

    Args:
        parts: grid and number of columns of each tensor, left to right.
    """

    parts: tuple[tuple[CodeGrid, int], ...] = field(default_factory=tuple)

    @cached_property
    def inverse_scale(self) -> np.ndarray:
        """(columns,) float32."""
        return self._per_column([grid.inverse_scale for grid, _ in self.parts], np.float32)

    @cached_property
    def zero_point(self) -> np.ndarray:
        """(columns,) uint8."""
        return self._per_column([grid.zero_point for grid, _ in self.parts], np.uint8)

    @cached_property
    def maximum(self) -> np.ndarray:
        """(columns,) uint8: the largest code."""
        return self._per_column([grid.maximum for grid, _ in self.parts], np.uint8)

    @cached_property
    def tables(self) -> "tuple[ColumnTable, ...]":
        """What codes are replaced by in the columns of codebooks."""
        return tuple(
            (slice(start, start + columns), table)
            for start, (grid, columns) in zip(self._starts, self.parts, strict=False)
            for _, table in grid.tables
        )

    def split(self, codes: np.ndarray) -> "tuple[Codes, ...]":
        """Views of the tensors that share (rows, columns) `codes`."""
        return tuple(
            Codes(codes[:, start : start + columns], grid)
            for start, (grid, columns) in zip(self._starts, self.parts, strict=False)
        )

    @property
    def _starts(self) -> list[int]:
        return [0, *accumulate(columns for _, columns in self.parts)]

    def _per_column(self, numbers: list, dtype: type) -> np.ndarray:
        return np.repeat(np.array(numbers, dtype), [columns for _, columns in self.parts])


@dataclass(frozen=True)
class Codes:
    """A tensor as codes (any shape, uint8) and the grid they lie on."""

    array: np.ndarray
    grid: CodeGrid

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def reshape(self, *shape: int) -> "Codes":
        return Codes(self.array.reshape(*shape), self.grid)

    def values(self) -> np.ndarray:
        """The numbers that the codes stand for, float32."""
        return (self.array - np.float32(self.grid.zero_point)) * np.float32(self.grid.scale)


@dataclass(frozen=True)
class Sum:
    """Values and their positions, added only when they are used.

    Args:
        values: (rows, columns) float32.
        addend: (a divisor of rows, columns) float32, repeated over the rows.
        undone: the addend is subtracted again. What is left are the values, but for their last
            bits, which decide codes: as the simulation has them.
    """

    values: np.ndarray
    addend: np.ndarray
    undone: bool = False

    def __getitem__(self, rows: slice) -> "Sum":
        """Some rows of values that have a position each."""
        return Sum(self.values[rows], self.addend[rows])

    def total(self) -> np.ndarray:
        """The sum, (rows, columns) float32."""
        groups = self.values.reshape(-1, *self.addend.shape)
        total = groups + self.addend
        return (total - self.addend if self.undone else total).reshape(self.values.shape)


class Reading(Enum):
    """What a layer reads of tokens that have positions."""

    VALUES = "values"
    PLACED = "values with positions"
    UNPLACED = "values with positions, which are subtracted again"


Operand = tuple[CodeGrid | None, Reading]
"""The grid on which a layer reads tokens, None if it reads values; and which values."""


ColumnTable = tuple[slice, np.ndarray]
"""Columns of a matrix of codes, and what each of the 256 codes is replaced by there, uint8."""

Tensor = np.ndarray | Codes
"""What flows between layers: float32 values, or codes on a grid."""


def values_of(tensor: Tensor | Sum) -> np.ndarray:
    """Return `tensor` as float32 values."""
    if isinstance(tensor, Sum):
        return tensor.total()
    return tensor.values() if isinstance(tensor, Codes) else tensor
