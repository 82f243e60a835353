"""Grids: the values that a quantized tensor may take, and the codes that name them."""

import torch
from torch import Tensor, nn


class UniformGrid(nn.Module):
    """Asymmetric uniform grid of 2**bits values: value(c) = (c - zero_point) * scale.

    Args:
        scale: positive, float32; shape (1,) for a whole tensor or (rows, 1) for one grid per row.
        zero_point: code of the value 0, an integer in [0, 2**bits - 1]; shape of `scale`.
        bits: 2 to 8.
    """

    name = "uniform"
    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor, bits: int) -> None:
        super().__init__()
        if not bool(torch.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("A grid's scale is not positive and finite.")
        self.register_buffer("scale", scale.float())
        self.register_buffer("zero_point", zero_point.float())
        self.bits = bits

    @classmethod
    def from_range(cls, low: Tensor, high: Tensor, bits: int) -> "UniformGrid":
        """Return the grid that spans [low, high], widened to hold 0 exactly."""
        scale, zero_point = scale_and_zero_point(low, high, bits)
        return cls(scale, zero_point, bits)

    @property
    def levels(self) -> int:
        """Highest code."""
        return 2**self.bits - 1

    def codes(self, values: Tensor) -> Tensor:
        """Return the codes of `values`, as float32 integers in [0, levels]."""
        # Multiplied by the reciprocal, as integer kernels do: both must round the same way.
        steps = torch.round(values * (1.0 / self.scale))
        return (steps + self.zero_point).clamp_(0, self.levels)

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for."""
        return (codes - self.zero_point) * self.scale

    def forward(self, values: Tensor) -> Tensor:
        """Return each value's nearest neighbour on the grid."""
        return self.values(self.codes(values))


def scale_and_zero_point(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return scale and zero point of the uniform grid over [low, high] with 0 on the grid.

    An empty range (all values zero) gives scale 1, which represents zeros exactly.
    """
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = (high - low) / (2**bits - 1)
    scale = torch.where(scale > torch.finfo(torch.float32).tiny, scale, 1.0)
    zero_point = torch.round(-low / scale).clamp(0, 2**bits - 1)
    return scale, zero_point


GRIDS = {UniformGrid.name: UniformGrid}
"""Grids by the name that checkpoints use."""
