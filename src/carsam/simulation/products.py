"""Products whose gradients may be found in bfloat16, which some processors multiply faster.

The products themselves are computed in float32 always. Of their gradients, which the optimiser
divides by their own size, bfloat16 keeps 8 bits of every factor; sums are made in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from carsam.errors import UserError

GRADIENTS = ("auto", "float32", "bfloat16")

_in_bfloat16: ContextVar[bool] = ContextVar("in_bfloat16", default=False)


def multiplies_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 (AVX512-BF16 or AMX)."""
    cpu: Any = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


def prefers_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 faster than float32.

    Intel's processors with AVX512-FP16 have AMX for it. Where a virtual machine hides that,
    AVX512-BF16 takes as long as float32, and the conversions come on top.
    """
    cpu: Any = torch.cpu
    half = cpu.get_capabilities().get("avx512_fp16", False)
    return bool(cpu._is_amx_tile_supported() or (multiplies_bfloat16() and not half))


def check_gradients(name: str) -> None:
    """Raise UserError unless gradients can be found in this one of GRADIENTS here."""
    if name not in GRADIENTS:
        raise UserError(f"Gradients in {name!r}; expected one of {', '.join(GRADIENTS)}.")
    if name == "bfloat16" and not multiplies_bfloat16():
        raise UserError(
            "Gradients in bfloat16, which this processor does not multiply (AVX512-BF16 or AMX "
            "would); choose float32 or auto."
        )


@contextmanager
def gradients_in(name: str, device: torch.device) -> Iterator[None]:
    """Find the gradients of products in one of GRADIENTS meanwhile.

    Args:
        name: `auto` is bfloat16 where the processor multiplies it faster, else float32.
        device: of the model; on others than the CPU gradients are float32.
    """
    chosen = name == "bfloat16" or (name == "auto" and prefers_bfloat16())
    token = _in_bfloat16.set(chosen and device.type == "cpu")
    try:
        yield
    finally:
        _in_bfloat16.reset(token)


def linear(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return values weight' + bias, as `torch.nn.functional.linear`."""
    if not (_in_bfloat16.get() and torch.is_grad_enabled()):
        return F.linear(values, weight, bias)
    return cast(Tensor, _Linear.apply(values, weight, bias))


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """Return the product of the last two dimensions, as `torch.matmul`."""
    if not (_in_bfloat16.get() and torch.is_grad_enabled()):
        return torch.matmul(left, right)
    return cast(Tensor, _Matmul.apply(left, right))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.shape = values.shape
        trains_weight = ctx.needs_input_grad[1]
        ctx.save_for_backward(
            values.flatten(0, -2).bfloat16() if trains_weight else None, weight.bfloat16()
        )
        return F.linear(values, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        short = rows.bfloat16()
        of_values = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_values = (short @ weight).float().view(ctx.shape)
        if ctx.needs_input_grad[1]:
            of_weight = (short.mT @ values).float()
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(0)
        return of_values, of_weight, of_bias


class _Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.shapes = left.shape, right.shape
        ctx.save_for_backward(left.bfloat16(), right.bfloat16())
        return torch.matmul(left, right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        short = gradient.bfloat16()
        of_left = of_right = None
        if ctx.needs_input_grad[0]:
            of_left = torch.matmul(short, right.mT).float().sum_to_size(ctx.shapes[0])
        if ctx.needs_input_grad[1]:
            of_right = torch.matmul(left.mT, short).float().sum_to_size(ctx.shapes[1])
        return of_left, of_right
