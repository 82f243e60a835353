"""The native engine's float arithmetic in torch, operation by operation.

`carsam.runtime.functions` defines the same functions in numpy. Each is written as single IEEE
operations in a fixed order, so that a simulation made of them gives the native engine's bits: one
value that gets the other of two neighbouring codes would change the whole image.
"""

import numpy as np
import torch
from torch import Tensor

from carsam.runtime.functions import (
    ERF_DENOMINATOR,
    ERF_LIMIT,
    ERF_NUMERATOR,
    EXP2_COEFFICIENTS,
    LANES,
    LOWEST_EXPONENT,
)

ELEMENTS_AT_ONCE = 1 << 19
"""Tensors go through a chain of operations in pieces that stay in a processor's cache."""

_ROUNDING = 12582912.0  # 1.5 * 2**23: a sum with it is an integer, in the low bits of the sum
_MANTISSA_BITS = 23


def gelu(values: Tensor) -> Tensor:
    """Return x Phi(x) of float32 values, as `carsam.runtime.functions.gelu`."""
    flat = values.contiguous().view(-1)
    result = torch.empty_like(flat)
    for x, target in zip(flat.split(ELEMENTS_AT_ONCE), result.split(ELEMENTS_AT_ONCE), strict=True):
        error = _erf_(x * 0.7071067811865476)
        torch.mul(x, 0.5, out=target).mul_(error.add_(1.0))
    return result.view(values.shape)


def exp2_(x: Tensor) -> Tensor:
    """Replace float32 x <= 0 by 2**x, as `carsam.runtime.functions.exp2`."""
    x.clamp_(min=float(LOWEST_EXPONENT))
    shifted = x + _ROUNDING
    x.sub_(shifted - _ROUNDING)
    power = _polynomial(x, EXP2_COEFFICIENTS)
    exponent = shifted.view(torch.int32).bitwise_left_shift_(_MANTISSA_BITS)
    power.view(torch.int32).add_(exponent)
    return x.copy_(power)


def lane_sum(x: Tensor) -> Tensor:
    """Sum (rows, lines, length) to (rows, 1), as `carsam.runtime.functions.lane_sum`.

    Every line begins at lane 0, as if it were filled up with zeros to whole lanes.
    """
    lanes = x.new_zeros(len(x), LANES)
    for line in x.unbind(1):
        for part in line.split(LANES, dim=1):
            lanes[:, : part.shape[1]] += part
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes


def layer_norm(values: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Normalise the last axis of float32 values, as `carsam.runtime.reference.layer_norm`."""
    rows = values.reshape(-1, values.shape[-1])
    result = torch.empty_like(rows)
    at_once = max(1, ELEMENTS_AT_ONCE // rows.shape[1])
    columns = rows.new_tensor(rows.shape[1])  # a tensor: numbers may be divided by differently
    for x, target in zip(rows.split(at_once), result.split(at_once), strict=True):
        mean = lane_sum(x[:, None]) / columns
        centred = torch.sub(x, mean, out=target)
        variance = lane_sum(centred.square()[:, None]) / columns
        # torch's float32 square root is not the nearest; the float64 one, rounded, is.
        deviation = (variance + epsilon).double().sqrt_().float()
        centred.mul_(deviation.reciprocal_()).mul_(weight).add_(bias)
    return result.view(values.shape)


def exact_type(largest: float) -> torch.dtype:
    """Return a type in which sums of integers, of magnitudes up to `largest`, are exact."""
    return torch.float32 if largest < 1 << 24 else torch.float64


def _erf_(x: Tensor) -> Tensor:
    limit = float(ERF_LIMIT)
    x.clamp_(-limit, limit)
    square = x * x
    return x.mul_(_polynomial(square, ERF_NUMERATOR)).div_(_polynomial(square, ERF_DENOMINATOR))


def _polynomial(x: Tensor, coefficients: np.ndarray) -> Tensor:
    """Horner's rule, highest power first; every step is two operations, never a fused one."""
    first, second, *others = map(float, coefficients)
    result = (x * first).add_(second)
    for coefficient in others:
        result.mul_(x).add_(coefficient)
    return result
