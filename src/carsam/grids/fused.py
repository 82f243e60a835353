"""Rounding with gradients in one pass forward and one backward, by the compiled kernels.

Each function here is what the torch operations of `Grid.soft` and of `Draw.mask` compute together,
with the same bits forward. The backward pass draws the mask again; nothing is kept but the input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from carsam.grids.draws import Draw
from carsam.grids.kernels import pointer, training


@dataclass(frozen=True)
class UniformRounding:
    """To (rint(value / scale) between -zero and levels - zero) * scale.

    Args:
        scale: (1,), or (channels,) of the last dimension.
        zero: of the same shape.
        levels: the highest code.
    """

    scale: Tensor
    zero: Tensor
    levels: int

    def __call__(self, values: Tensor, draw: Draw | None) -> Tensor:
        """Round the values that are drawn; scale and values get LSQ's gradients."""
        kernels = training.round_uniform, training.round_uniform_backward
        numbers = self.levels, draw.keys if draw else None
        rounded: Tensor = _Rounded.apply(values, self.scale, self.zero, kernels, numbers)
        return rounded


@dataclass(frozen=True)
class ListedRounding:
    """To the nearest of listed values.

    Args:
        table: ascending, differentiable.
        middles: one fewer; the place of a number is how many of them are below it.
        low, high: between these, values pass their gradients on.
        factor: unless it is 0, what is compared with the middles is rint(value * factor).
    """

    table: Tensor
    middles: Tensor
    low: float
    high: float
    factor: float = 0.0

    def __call__(self, values: Tensor, draw: Draw | None) -> Tensor:
        """Round the values that are drawn; the table's gradients hold the places fixed."""
        kernels = training.round_listed, training.round_listed_backward
        numbers = self.factor, self.low, self.high, draw.keys if draw else None
        rounded: Tensor = _Rounded.apply(values, self.table, self.middles, kernels, numbers)
        return rounded


Rounding = UniformRounding | ListedRounding


class _Rounded(torch.autograd.Function):
    """Values rounded by one kernel, with gradients by another.

    `trained` is the scale or the table, `fixed` is what goes with it, `numbers` end both lists of
    arguments.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        trained: Tensor,
        fixed: Tensor,
        kernels: tuple[Callable[..., None], Callable[..., None]],
        numbers: tuple[Any, ...],
    ) -> Tensor:
        values = values.contiguous()
        ctx.save_for_backward(values, trained, fixed)
        forward, ctx.backward_kernel = kernels
        ctx.numbers = numbers
        result = torch.empty_like(values)
        forward(pointer(values), pointer(trained), pointer(fixed), *numbers, pointer(result))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, trained, fixed = ctx.saved_tensors
        of_values = torch.empty_like(values)
        of_trained = torch.empty(trained.shape, dtype=torch.float64)
        ctx.backward_kernel(
            pointer(values),
            pointer(trained),
            pointer(fixed),
            *ctx.numbers,
            pointer(gradient.contiguous()),
            pointer(of_values),
            pointer(of_trained),
        )
        return of_values, of_trained.float(), None, None, None


class CodeRows(torch.autograd.Function):
    """(rint(codes between 0 and levels) - zero) * scale, of rows with a scale each."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
        """Return the rows; codes (rows, columns), scale and zero (rows, 1)."""
        ctx.save_for_backward(codes, scale, zero)
        ctx.levels = levels
        result = torch.empty_like(codes)
        training.round_rows(*_rows(codes, scale, zero), levels, None, pointer(result), None)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of codes, where they are in range, and of scales."""
        codes, scale, zero = ctx.saved_tensors
        of_codes = torch.empty_like(codes)
        of_scale = torch.empty(len(scale), dtype=torch.float64)
        training.round_rows(
            *_rows(codes, scale, zero),
            ctx.levels,
            pointer(gradient.contiguous()),
            pointer(of_codes),
            pointer(of_scale),
        )
        return of_codes, of_scale.float()[:, None], None, None


class SoftRows(torch.autograd.Function):
    """(floor + share + zero between 0 and levels, less zero) * scale, of rows with a scale each.

    The share is AdaRound's stretched sigmoid of its argument.
    """

    @staticmethod
    def forward(
        ctx: Any, argument: Tensor, floor: Tensor, scale: Tensor, zero: Tensor, levels: int
    ) -> Tensor:
        """Return the rows; argument and floor (rows, columns), scale and zero (rows, 1)."""
        sigmoid = torch.sigmoid(argument)
        ctx.save_for_backward(sigmoid, floor, scale, zero)
        ctx.levels = levels
        result = torch.empty_like(floor)
        rows = pointer(floor), *_rows(sigmoid, scale, zero)
        training.soft_rows(*rows, levels, None, pointer(result))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the argument."""
        sigmoid, floor, scale, zero = ctx.saved_tensors
        of_argument = torch.empty_like(floor)
        rows = pointer(floor), *_rows(sigmoid, scale, zero)
        gradients = pointer(gradient.contiguous()), pointer(of_argument)
        training.soft_rows(*rows, ctx.levels, *gradients)
        return of_argument, None, None, None, None


def _rows(rows: Tensor, scale: Tensor, zero: Tensor) -> tuple[Any, ...]:
    return pointer(rows), pointer(scale.flatten()), pointer(zero.flatten())
