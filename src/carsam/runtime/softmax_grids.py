"""Grids of probabilities."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from carsam.errors import UserError
from carsam.runtime.grids import CodeGrid
from carsam.runtime.tables import CodeTable

TOP = 255
"""The largest numerator."""


@dataclass(frozen=True)
class RowMaximumCodes:
    """Probabilities relative to their row's largest; see `carsam.grids.row_maximum`.

    Args:
        scale: float32, above 0, at most 1.
        numerator: (2**bits,) uint8, ascending from 0 to 255.

    Raises:
        UserError: scale or numerators are not of this form.
    """

    scale: np.float32
    numerator: np.ndarray

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise UserError(
                f"A row-maximum grid of scale {self.scale}; expected one above 0, at most 1. "
                "Quantize the model again."
            )
        ends, steps = self.numerator[[0, -1]], np.diff(self.numerator.astype(np.int32))
        if ends.tolist() != [0, TOP] or (steps < 0).any():
            raise UserError(
                f"A row-maximum grid of numerators {self.numerator.tolist()}; expected them to "
                f"ascend from 0 to {TOP}. Quantize the model again."
            )

    @property
    def factor(self) -> np.float32:
        """What turns a relative probability into 255ths of the scale."""
        return np.float32(TOP) / self.scale

    @cached_property
    def numerators(self) -> np.ndarray:
        """(256,) uint8: the numerator nearest to each integer, halfway the lower."""
        doubled = self.numerator.astype(np.int32)
        middles = doubled[1:] + doubled[:-1]
        return self.numerator[np.searchsorted(middles, 2 * np.arange(TOP + 1))]


SoftmaxGrid = CodeGrid | RowMaximumCodes | CodeTable
"""What probabilities may lie on."""
