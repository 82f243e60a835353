"""A uniform grid per group of channels."""

from collections.abc import Iterator

import torch
from torch import Tensor

from carsam.grids.base import Grid, soft_uniform
from carsam.grids.fused import Rounding, UniformRounding


class GroupedUniformGrid(Grid):
    """Uniform grids of 2**bits values each, shared by the channels of a group.

    AHCPTQ's channel-aware grouping (CAG; Zhang et al., ICCV 2025) for inputs of
    linears. The groups lie along the dimension that the linear sums over, so that an integer
    product needs one sum per group.

    Args:
        scale, zero_point: (groups,).
        group: (channels,) number of each channel's group; channels are the last dimension.
        bits: 2 to 8.
    """

    name = "grouped-uniform"
    zero_point: Tensor
    group: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor, group: Tensor, bits: int) -> None:
        super().__init__(scale, bits)
        self.register_buffer("zero_point", zero_point.float())
        self.register_buffer("group", group.long())

    @property
    def settings(self) -> dict[str, int]:
        """Numbers of groups and channels."""
        return {"groups": len(self.scale), "channels": len(self.group)}

    def codes(self, values: Tensor) -> Tensor:
        """Return the codes of `values` (..., channels), as float32 integers in [0, levels]."""
        steps = torch.round(values * (1.0 / self.scale)[self.group])
        return (steps + self.zero_point[self.group]).clamp_(0, self.levels)

    def integer_parts(self, values: Tensor) -> Iterator[tuple[Tensor, slice | Tensor, Tensor]]:
        """Yield, of every group that has channels, codes less the zero point, places and scale."""
        codes = self.codes(values)
        for number in range(len(self.scale)):
            columns = (self.group == number).nonzero().flatten()
            if len(columns):
                steps = codes[..., columns] - self.zero_point[number]
                yield steps, columns, self.scale[number]

    @property
    def largest_step(self) -> float:
        """Largest magnitude of a code less its zero point, of any group."""
        return float(torch.maximum(self.zero_point, self.levels - self.zero_point).max())

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that codes (..., channels) stand for."""
        return (codes - self.zero_point[self.group]) * self.scale[self.group]

    def soft_in_steps(self, values: Tensor, factor: Tensor) -> Tensor:
        """Round with the gradients of LSQ."""
        scale = (self.scale * factor)[self.group]
        return soft_uniform(values, scale, self.zero_point[self.group], self.levels)

    def rounding(self, factor: Tensor) -> Rounding | None:
        """Describe it to the kernels."""
        scale = (self.scale * factor)[self.group]
        return UniformRounding(scale, self.zero_point[self.group], self.levels)

    def check_integers(self, integers: Tensor) -> tuple[int, bool]:
        """Return how many distinct integers of one group there are, and whether all fit a code."""
        distinct = integers.unique()
        low, high = -self.zero_point.max(), self.levels - self.zero_point.min()
        whole = bool((distinct == distinct.round()).all())
        return len(distinct), whole and bool(((distinct >= low) & (distinct <= high)).all())

    def check(self, values: Tensor) -> tuple[int, bool]:
        """Return the most distinct values of any group, and whether all are on their grids."""
        groups = range(len(self.scale))
        counts = [len(values[..., self.group == number].unique()) for number in groups]
        return max(counts), torch.equal(self(values), values)
