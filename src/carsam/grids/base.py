"""Grids: the values that a quantized tensor may take, and the codes that name them."""

import copy
from collections.abc import Iterator
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from carsam.grids.draws import Draw
from carsam.grids.fused import Rounding, UniformRounding
from carsam.grids.kernels import takes


class Grid(nn.Module):
    """A set of at most 2**bits values, and the rounding of a tensor to them.

    A kind of grid is a subclass with a `name`, an entry in `carsam.formats.grid_layouts.LAYOUTS`
    and one in `carsam.grids.registry.GRIDS`. Its buffers are the tensors that the layout lists,
    `scale` among them; `settings` are the layout's settings.

    Args:
        scale: float32, positive; what reconstruction trains.
        bits: 2 to 8.
    """

    name: ClassVar[str]
    relative_to_maximum: ClassVar[bool] = False
    """Whether it rounds probabilities divided by their row's largest; see `RowMaximumGrid`."""
    scale: Tensor

    def __init__(self, scale: Tensor, bits: int) -> None:
        super().__init__()
        if not bool(torch.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("A grid's scale is not positive and finite.")
        self.register_buffer("scale", scale.float())
        self.bits = bits

    @property
    def levels(self) -> int:
        """Highest code."""
        return 2**self.bits - 1

    @property
    def settings(self) -> dict[str, int]:
        """What describes the grid in the manifest beside its name and bits."""
        return {}

    def codes(self, values: Tensor) -> Tensor:
        """Return the codes of `values`, as float32 integers in [0, levels]."""
        raise NotImplementedError

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for."""
        raise NotImplementedError

    def forward(self, values: Tensor) -> Tensor:
        """Return each value's nearest neighbour on the grid."""
        return self.values(self.codes(values))

    def soft(self, values: Tensor, factor: Tensor, draw: Draw | None = None) -> Tensor:
        """Round as the grid of scale `scale * factor` does, with gradients for both arguments.

        Args:
            factor: positive, of the shape of `scale`.
            draw: of the values to round; the others pass as they are. None rounds all.
        """
        rounding = self.rounding(factor) if takes(values) else None
        if rounding is not None:
            return rounding(values, draw)
        rounded = self.soft_in_steps(values, factor)
        return rounded if draw is None else torch.where(draw.mask(values), rounded, values)

    def soft_in_steps(self, values: Tensor, factor: Tensor) -> Tensor:
        """Round as `soft` does, by operations of torch."""
        raise NotImplementedError

    def rounding(self, factor: Tensor) -> Rounding | None:
        """Return the same for the compiled kernels, with their bits; None if they cannot."""
        return None

    def scaled(self, factor: Tensor) -> Self:
        """Return the grid of scale `scale * factor`."""
        grid = copy.deepcopy(self)
        grid.scale = self.scale * factor
        return grid

    def check_integers(self, integers: Tensor) -> tuple[int, bool]:
        """Return how many distinct integers there are, and whether all stand for codes.

        Of grids whose codes are multiplied as integers, each for one whole tensor.
        """
        raise NotImplementedError

    def check(self, values: Tensor) -> tuple[int, bool]:
        """Return how many distinct values share 2**bits codes, and whether all are on the grid."""
        distinct = values.unique()
        return len(distinct), torch.equal(self(distinct), distinct)


class UniformGrid(Grid):
    """Asymmetric uniform grid of 2**bits values: value(c) = (c - zero_point) * scale.

    Args:
        scale: positive, float32; shape (1,) for a whole tensor or (rows, 1) for one grid per row.
        zero_point: code of the value 0, an integer in [0, 2**bits - 1]; shape of `scale`.
        bits: 2 to 8.
    """

    name = "uniform"
    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor, bits: int) -> None:
        super().__init__(scale, bits)
        self.register_buffer("zero_point", zero_point.float())

    @classmethod
    def from_range(cls, low: Tensor, high: Tensor, bits: int) -> "UniformGrid":
        """Return the grid that spans [low, high], widened to hold 0 exactly."""
        scale, zero_point = scale_and_zero_point(low, high, bits)
        return cls(scale, zero_point, bits)

    def codes(self, values: Tensor) -> Tensor:
        """Return the codes of `values`, as float32 integers in [0, levels]."""
        return self.steps(values) + self.zero_point

    def steps(self, values: Tensor, divisor: Tensor | None = None) -> Tensor:
        """Return the codes of `values` less the zero point, as float32 integers.

        Args:
            divisor: what `values` are to be divided by first, of a shape that spreads over them.
        """
        # Multiplied by the reciprocal, as integer kernels do: both must round the same way.
        factor = 1.0 / self.scale
        if divisor is not None:
            factor = factor / divisor
        steps = (values * factor).round_()
        low, high = -self.zero_point, self.levels - self.zero_point
        if len(low) == 1:
            return steps.clamp_(low.item(), high.item())  # faster than with tensors
        return steps.clamp_(low, high)

    def integer_parts(self, values: Tensor) -> Iterator[tuple[Tensor, slice | Tensor, Tensor]]:
        """Yield integers, the columns of a weight that they meet, and what an integer is worth.

        The values are the sum of all parts; here there is one.
        """
        yield self.steps(values), slice(None), self.scale

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for."""
        return (codes - self.zero_point) * self.scale

    def forward(self, values: Tensor) -> Tensor:
        """Return each value's nearest neighbour on the grid."""
        return self.steps(values) * self.scale

    def soft_in_steps(self, values: Tensor, factor: Tensor) -> Tensor:
        """Round with the gradients of LSQ (Esser et al., ICLR 2020)."""
        return soft_uniform(values, self.scale * factor, self.zero_point, self.levels)

    def rounding(self, factor: Tensor) -> Rounding | None:
        """Describe it to the kernels, unless there is one grid per row."""
        if self.scale.ndim > 1:
            return None
        return UniformRounding(self.scale * factor, self.zero_point, self.levels)

    def check_integers(self, integers: Tensor) -> tuple[int, bool]:
        """Return how many distinct integers there are, and whether all are `steps`."""
        distinct = integers.unique()
        codes = distinct + self.zero_point
        whole = bool((codes == codes.round()).all())
        return len(distinct), whole and bool(((codes >= 0) & (codes <= self.levels)).all())

    @property
    def largest_step(self) -> float:
        """Largest magnitude of a code less its zero point, of any row."""
        return float(torch.maximum(self.zero_point, self.levels - self.zero_point).max())


def soft_uniform(values: Tensor, scale: Tensor, zero_point: Tensor, levels: int) -> Tensor:
    """Round to a uniform grid, straight through for values inside its range."""
    rounded = round_through(values * (1.0 / scale))  # as `UniformGrid.steps` rounds
    return ((rounded + zero_point).clamp(0, levels) - zero_point) * scale


def scale_and_zero_point(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return scale and zero point of the uniform grid over [low, high] with 0 on the grid.

    An empty range (all values zero) gives scale 1, which represents zeros exactly.
    """
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = (high - low) / (2**bits - 1)
    scale = torch.where(scale > torch.finfo(torch.float32).tiny, scale, 1.0)
    zero_point = torch.round(-low / scale).clamp(0, 2**bits - 1)
    return scale, zero_point


def round_through(steps: Tensor) -> Tensor:
    """Round to nearest; gradients pass straight through."""
    return steps + (torch.round(steps) - steps).detach()


def pass_straight(rounded: Tensor, values: Tensor, low: Tensor | float, high: Tensor) -> Tensor:
    """Return `rounded`; gradients pass straight through to the values between two numbers."""
    inside = (values >= low) & (values <= high)
    return rounded + torch.where(inside, values - values.detach(), 0.0)
