"""Probabilities relative to the largest of their row, normalised after the product."""

import math

import numpy as np
import torch
from torch import Tensor

from carsam.errors import UserError
from carsam.grids.base import Grid, pass_straight
from carsam.grids.fused import ListedRounding, Rounding
from carsam.runtime.softmax_grids import DEEPEST, STEPS_PER_OCTAVE, RowMaximumCodes

TOP = 255
"""The largest numerator: they are bytes, so that the product with the values is one of integers."""


class RowMaximumGrid(Grid):
    """Values numerator(c) / 255 * scale for exp(score - largest score of the row).

    Every row has its own range for free: with n the numerators of its codes, attention is
    sum_j n_j v_j / sum_j n_j, whatever the scale. A value is rounded to the nearest 255th of the
    scale, then to the nearest numerator, halfway to the lower.

    Args:
        scale: at most 1, (1,); what is above has the highest code, so the row's largest always has.
        numerator: (2**bits,) integers from 0 to 255, ascending.
        bits: 2 to 8.

    Raises:
        UserError: scale or numerators are not of this form.
    """

    name = "row-maximum"
    relative_to_maximum = True
    numerator: Tensor
    _code_of_step: Tensor
    _numerator_of_step: Tensor
    _middles: Tensor

    def __init__(self, scale: Tensor, numerator: Tensor, bits: int) -> None:
        super().__init__(scale, bits)
        check_numerators(numerator.tolist())
        if bool((self.scale > 1).any()):
            raise UserError(f"A row-maximum grid of scale {float(scale)}; expected at most 1.")
        self.register_buffer("numerator", numerator.long())
        steps = torch.arange(TOP + 1, device=numerator.device)
        middles = (self.numerator[1:] + self.numerator[:-1]) / 2
        codes = torch.bucketize(steps, middles)
        self.register_buffer("_middles", middles, persistent=False)
        self.register_buffer("_code_of_step", codes.float(), persistent=False)
        self.register_buffer("_numerator_of_step", self.numerator[codes].float(), persistent=False)

    @classmethod
    def curved(
        cls, curvature: float, bits: int, device: torch.device | None = None
    ) -> "RowMaximumGrid":
        """Return the grid that is uniform in log(1 + curvature * value); 0 is plainly uniform."""
        shares = torch.arange(2**bits, dtype=torch.float64) / (2**bits - 1)
        if curvature > 0:
            shares = torch.expm1(math.log1p(curvature) * shares) / curvature
        return cls(torch.ones(1, device=device), torch.round(TOP * shares).to(device), bits)

    def codes(self, values: Tensor) -> Tensor:
        """Return the codes of `values`, as float32 integers in [0, levels]."""
        return _looked_up(self._code_of_step, values, self.scale)

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for."""
        return (self.numerator * (self.scale / TOP))[codes.long()]

    def forward(self, values: Tensor) -> Tensor:
        """Return each value's nearest neighbour on the grid, looked up once."""
        return self.numerators(values) * (self.scale / TOP)

    def numerators(self, values: Tensor) -> Tensor:
        """Return the numerators of the codes of `values`, as float32 integers."""
        return _looked_up(self._numerator_of_step, values, self.scale)

    def numerators_of_logits(self, logits: Tensor) -> Tensor:
        """Return the numerators of the codes of a softmax, as float32 integers.

        The logits, which are overwritten, are rounded to steps, as `carsam.runtime.softmax_grids`
        describes it.

        Args:
            logits: (..., keys) float32, in units of log 2.
        """
        steps = round_to_steps_(logits)
        depths = steps.amax(-1, keepdim=True).sub(steps).clamp_(max=DEEPEST)
        numerator = self.numerator.to(torch.uint8).cpu().numpy()
        codes = RowMaximumCodes(np.float32(self.scale.item()), numerator)
        table = torch.from_numpy(codes.by_depth).to(logits)
        return table.index_select(0, depths.int().flatten()).view(logits.shape)

    def check_integers(self, integers: Tensor) -> tuple[int, bool]:
        """Return how many distinct integers there are, and whether all are numerators."""
        distinct = integers.unique()
        return len(distinct), bool(torch.isin(distinct, self.numerator).all())

    def soft_in_steps(self, values: Tensor, factor: Tensor) -> Tensor:
        """Round; the scale's gradient holds codes fixed, values pass straight through in range."""
        scale = (self.scale * factor).clamp(max=1.0)
        numerators = _looked_up(self._numerator_of_step, values.detach(), scale.detach())
        return pass_straight(numerators * (scale / TOP), values, 0.0, scale.detach())

    def rounding(self, factor: Tensor) -> Rounding | None:
        """Describe it to the kernels: 255ths of the scale are compared with the middles."""
        scale = (self.scale * factor).clamp(max=1.0)
        numbers = scale.detach()
        table = self.numerator * (scale / TOP)
        return ListedRounding(table, self._middles, 0.0, float(numbers), float(TOP / numbers))

    def scaled(self, factor: Tensor) -> "RowMaximumGrid":
        """Return the grid of scale `scale * factor`, but at most 1."""
        return RowMaximumGrid((self.scale * factor).clamp(max=1.0), self.numerator, self.bits)


def round_to_steps_(logits: Tensor) -> Tensor:
    """Replace logits in units of log 2 by the nearest steps, of 16 bits."""
    return logits.mul_(STEPS_PER_OCTAVE).round_().clamp_(-(1 << 15), (1 << 15) - 1)


def _looked_up(table: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    """Return the entries (of 256) for the nearest 255ths of the scale; the last one for NaN.

    A search among the middles between numerators took thirty times as long.
    """
    steps = torch.round(values * (TOP / scale)).clamp_(0, TOP).nan_to_num_(TOP)
    return table.index_select(0, steps.int().flatten()).view(values.shape)


def check_numerators(numerators: list[int]) -> None:
    """Raise UserError unless numerators ascend from 0 to 255."""
    if (numerators[0], numerators[-1]) != (0, TOP) or numerators != sorted(numerators):
        raise UserError(
            f"A row-maximum grid of numerators {numerators}; expected them to ascend from 0 to "
            f"{TOP}. Quantize the model again."
        )
