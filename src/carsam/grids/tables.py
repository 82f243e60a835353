"""Grids that are no more than a table of ascending values: logarithmic, twin, hybrid.

`carsam.runtime.tables` has them without torch. Powers are found in double precision, so that both
round to the same float32 values.
"""

from functools import partial

import torch
from torch import Tensor

from carsam.grids.base import Grid, pass_straight
from carsam.grids.fused import ListedRounding


class TableGrid(Grid):
    """A grid of listed values; a tensor's value is rounded to the nearest of them.

    The papers round in the logarithmic domain or range by range; the nearest value has the least
    error and, found by comparison, rounds its own values to themselves exactly. Code c is the
    c-th of the ascending values.
    """

    def table(self, scale: Tensor) -> Tensor:
        """Return the values (at most 2**bits,), ascending, differentiable in `scale`."""
        raise NotImplementedError

    def codes(self, values: Tensor) -> Tensor:
        """Return the codes of `values`, as float32 integers."""
        return _nearest(values, self.table(self.scale)).float()

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for."""
        return self.table(self.scale)[codes.long()]

    def forward(self, values: Tensor) -> Tensor:
        """Return each value's nearest neighbour on the grid."""
        table = self.table(self.scale)
        return table[_nearest(values, table)]

    def check_integers(self, integers: Tensor) -> tuple[int, bool]:
        """Return how many distinct numbers there are, and whether all are listed values."""
        distinct = integers.unique()
        return len(distinct), bool(torch.isin(distinct, self.table(self.scale).to(distinct)).all())

    def soft_in_steps(self, values: Tensor, factor: Tensor) -> Tensor:
        """Round; the scale's gradient holds codes fixed, values pass straight through in range."""
        table = self.table(self.scale * factor)
        rounded = table[_nearest(values.detach(), table.detach())]
        return pass_straight(rounded, values, table[0].detach(), table[-1].detach())

    def rounding(self, factor: Tensor) -> ListedRounding:
        """Describe it to the kernels."""
        table = self.table(self.scale * factor)
        listed = table.detach()
        return ListedRounding(table, _middles(listed), float(listed[0]), float(listed[-1]))


class LogGrid(TableGrid):
    """Powers of 2**(1 / granularity) below the scale, and 0, for probabilities.

    value(0) = 0, value(c) = scale * 2**(-(levels - c) / granularity): the adaptive
    granularity of PTQ4SAM (Lv et al., CVPR 2024); 2 is RepQ-ViT's log-sqrt2, 1 the plain
    log2. The papers let codes above the highest stand for 0 as well as 2**bits others; here 0 is
    one of the 2**bits.

    Args:
        scale: the largest value, (1,).
        granularity: steps per factor of 2.
        bits: 2 to 8.
    """

    name = "log2"

    def __init__(self, scale: Tensor, granularity: int, bits: int) -> None:
        super().__init__(scale, bits)
        self.granularity = granularity

    @property
    def settings(self) -> dict[str, int]:
        """The granularity."""
        return {"granularity": self.granularity}

    def table(self, scale: Tensor) -> Tensor:
        """Return 0 and the powers."""
        return scale * _with_zero(_powers(self.levels, self.granularity, scale))


class Log1pGrid(TableGrid):
    """Uniform in log(1 + k a / scale): between uniform (k near 0) and logarithmic (k large).

    value(c) = scale ((1 + k)**(c / levels) - 1) / k: AHCQ-SAM's logarithmic nonlinear quantization
    (LNQ; arXiv 2503.03088v4) of probabilities, with its alpha = k / scale.

    Args:
        scale: the largest value, (1,).
        curvature: k, positive, (1,).
        bits: 2 to 8.
    """

    name = "log1p"
    curvature: Tensor

    def __init__(self, scale: Tensor, curvature: Tensor, bits: int) -> None:
        super().__init__(scale, bits)
        self.register_buffer("curvature", curvature.float())

    def table(self, scale: Tensor) -> Tensor:
        """Return the values from 0 to the scale."""
        shares = torch.arange(self.levels + 1, device=scale.device).double() / self.levels
        curvature = self.curvature.double()
        return scale * (torch.expm1(torch.log1p(curvature) * shares) / curvature).float()


class TwinUniformGrid(TableGrid):
    """Two uniform grids of 2**(bits - 1) codes whose steps differ by 2**shift.

    PTQ4ViT's twin uniform quantization (Yuan et al., ECCV 2022): after the softmax a fine grid
    for small values beside a coarse one for large values; after GELU a fine one for the negative
    values beside a coarse one for the positive.

    Args:
        scale: the fine step, (1,).
        shift: log2 of the ratio of the steps.
        signed: 1 if the fine grid holds the negative values, 0 if both hold positive ones.
        bits: 2 to 8.
    """

    name = "twin-uniform"

    def __init__(self, scale: Tensor, shift: int, signed: int, bits: int) -> None:
        super().__init__(scale, bits)
        self.shift, self.signed = shift, signed

    @property
    def settings(self) -> dict[str, int]:
        """Shift and sign."""
        return {"shift": self.shift, "signed": self.signed}

    def table(self, scale: Tensor) -> Tensor:
        """Return both grids' values."""
        steps = torch.arange(2 ** (self.bits - 1), device=scale.device, dtype=scale.dtype)
        fine = -steps if self.signed else steps
        return scale * torch.cat([fine, steps * 2.0**self.shift]).unique()


class LogUniformGrid(TableGrid):
    """Logarithmic below a threshold, uniform above it, from a smallest value on.

    AHCPTQ's hybrid log-uniform quantizer (HLUQ; Zhang et al., ICCV 2025) for inputs
    of an MLP's second layer. With t the threshold, L = log_codes and u the uniform step:
    value(0) = offset, value(c) = offset + t 2**(c - L + 1) for c < L, then offset + t + k u.
    The released code sends large values of the uniform branch back to the threshold; this does
    not.

    Args:
        scale: threshold and uniform step, (2,).
        offset: the smallest value, (1,).
        log_codes: number of codes up to the threshold, at least 2.
        bits: 2 to 8.
    """

    name = "log-uniform"
    offset: Tensor

    def __init__(self, scale: Tensor, offset: Tensor, log_codes: int, bits: int) -> None:
        super().__init__(scale, bits)
        self.register_buffer("offset", offset.float())
        self.log_codes = log_codes

    @property
    def settings(self) -> dict[str, int]:
        """The number of logarithmic codes."""
        return {"log_codes": self.log_codes}

    def table(self, scale: Tensor) -> Tensor:
        """Return both parts' values."""
        threshold, step = scale.unbind()
        steps = torch.arange(1, 2**self.bits - self.log_codes + 1, device=scale.device)
        logarithmic = threshold * _with_zero(_powers(self.log_codes - 1, 1, scale))
        return self.offset + torch.cat([logarithmic, threshold + steps * step])


def _powers(count: int, granularity: int, like: Tensor) -> Tensor:
    """Return 2**(-j / granularity) for j = count - 1 down to 0."""
    exponents = torch.arange(1 - count, 1, device=like.device).double() / granularity
    return torch.exp2(exponents).float()


_with_zero = partial(torch.nn.functional.pad, pad=(1, 0))


def _nearest(values: Tensor, table: Tensor) -> Tensor:
    """Return the places in an ascending table of the nearest entries."""
    return torch.bucketize(values.contiguous(), _middles(table))


def _middles(table: Tensor) -> Tensor:
    """Return what lies between neighbours of an ascending table; above it the upper is nearer."""
    middles = (table[1:] + table[:-1]) / 2
    # Halfway between neighbouring floats may round up to the larger entry, which must stay itself.
    return torch.minimum(middles, torch.nextafter(table[1:], table[:-1]))
