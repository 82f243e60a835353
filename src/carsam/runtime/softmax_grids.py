"""Grids of probabilities."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from carsam.errors import UserError
from carsam.runtime.functions import exp2
from carsam.runtime.grids import CodeGrid
from carsam.runtime.tables import CodeTable

TOP = 255
"""The largest numerator."""

STEPS_PER_OCTAVE = 32
"""Steps in which logits are compared with their row's largest; an octave is a factor of two."""

DEEPEST = 255
"""Steps below the largest from which on a probability counts as 0; 2**-8 of the largest, nearly."""


def depths(logits: np.ndarray) -> np.ndarray:
    """How many steps below the largest of its row a logit lies, at most `DEEPEST`.

    Every logit is rounded to a step first, and held to 16 bits: a probability changes by no more
    than 1.1 %, while numerators of 4 bits, to which it is rounded next, lie a fifth apart.

    Args:
        logits: (rows, keys) float32, in units of log 2.

    Returns:
        (rows, keys) uint8.
    """
    steps = np.rint(logits * np.float32(STEPS_PER_OCTAVE)).clip(-(1 << 15), (1 << 15) - 1)
    return np.minimum(steps.max(axis=1, keepdims=True) - steps, DEEPEST).astype(np.uint8)


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

    @cached_property
    def by_depth(self) -> np.ndarray:
        """(256,) uint8: the numerator of a probability so many steps below its row's largest."""
        powers = exp2(np.arange(0, -DEEPEST, -1, dtype=np.float32) / STEPS_PER_OCTAVE)
        nearest = np.rint(np.minimum(powers * self.factor, np.float32(TOP))).astype(np.uint8)
        return np.append(self.numerators[nearest], np.uint8(0))


SoftmaxGrid = CodeGrid | RowMaximumCodes | CodeTable
"""What probabilities may lie on."""
