"""What reconstruction trains in place of fixed rounding: soft weight rounding, learned scales."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from carsam.families.base import Site
from carsam.grids.base import Grid, UniformGrid, round_through
from carsam.grids.draws import Draw
from carsam.grids.fused import CodeRows, SoftRows
from carsam.grids.kernels import takes
from carsam.simulation import slots
from carsam.simulation.layers import Layer, rows_to_weight, weight_to_rows

STRETCH_LOW, STRETCH_HIGH = -0.1, 1.1
"""AdaRound's stretched sigmoid (Nagel et al., ICML 2020) reaches 0 and 1 exactly."""


class SoftRounding(nn.Module):
    """AdaRound: each weight is rounded down plus a trained share h(alpha) of one step.

    Starts at the float weight where that lies within the grid's range.

    Args:
        layer: whose weight is parametrized.
        grid: of the weight's rows.
    """

    floor: Tensor

    def __init__(self, layer: Layer, grid: UniformGrid) -> None:
        super().__init__()
        self._layer = [layer]  # in a list: not a child of this module
        self.grid = grid
        rows = weight_to_rows(layer, layer.weight.detach())
        steps = rows / grid.scale
        self.register_buffer("floor", torch.floor(steps))
        self.alpha = nn.Parameter(torch.empty_like(rows))
        self.start_at_((steps - steps.floor()).clamp(0.0, 1.0))
        self.hard = False

    def start_at_(self, share: Tensor) -> None:
        """Give h(alpha) the values `share` (rows, columns), each in [0, 1]."""
        span = STRETCH_HIGH - STRETCH_LOW
        self.alpha.data = -torch.log(span / (share - STRETCH_LOW) - 1)

    @property
    def share(self) -> Tensor:
        """h(alpha) in [0, 1]: how far each weight is rounded up."""
        stretched = torch.sigmoid(self.alpha) * (STRETCH_HIGH - STRETCH_LOW) + STRETCH_LOW
        return stretched.clamp(0.0, 1.0)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the rounded weight; of the float `weight` only the shape is read."""
        grid: Any = self.grid
        if not self.hard and takes(self.alpha):
            rows: Tensor = SoftRows.apply(
                self.alpha, self.floor, grid.scale, grid.zero_point, grid.levels
            )
            return rows_to_weight(self._layer[0], rows, weight.shape)
        share = (self.alpha >= 0).float() if self.hard else self.share
        codes = (self.floor + share + grid.zero_point).clamp(0, grid.levels)
        return rows_to_weight(self._layer[0], grid.values(codes), weight.shape)

    def undecided(self, exponent: float) -> Tensor:
        """Return AdaRound's regulariser: sum of 1 - |2 h - 1|**exponent."""
        return (1 - (2 * self.share - 1).abs().pow(exponent)).sum()


class LearnedGrid(nn.Module):
    """LSQ: an activation grid whose scale is trained; QDrop lets some values through.

    Args:
        grid: the start; everything but its scale stays.
        keep: probability of a value being quantized; the others pass in float (QDrop).
        generator: draws which.
    """

    def __init__(self, grid: Grid, keep: float, generator: torch.Generator) -> None:
        super().__init__()
        self.start = grid
        self.factor = nn.Parameter(torch.ones_like(grid.scale))  # of the starting scale
        self.keep, self._generator = keep, generator

    @property
    def relative_to_maximum(self) -> bool:
        """As of the grid."""
        return self.start.relative_to_maximum

    @property
    def draws(self) -> bool:
        """Whether two calls differ."""
        return self.keep < 1.0

    @property
    def positive_factor(self) -> Tensor:
        """What the scale is multiplied with."""
        return self.factor.abs().clamp(min=1e-3)

    def forward(self, values: Tensor) -> Tensor:
        """Quantize with gradients for values and scale; drop the quantization of some values."""
        draw = Draw.of(self.keep, self._generator)
        return self.start.soft(values, self.positive_factor, draw)

    def fixed(self) -> Grid:
        """Return the trained grid, without dropping."""
        return self.start.scaled(self.positive_factor.detach())


class LearnedRows(nn.Module):
    """A rounded weight whose rows' scales are trained, and its codes if their gradients are used.

    Codes are rounded in the forward pass and gradients pass straight through (LSQ).

    Args:
        layer: whose weight is parametrized; it is on its grid.
        grid: of the weight's rows.
    """

    def __init__(self, layer: Layer, grid: UniformGrid) -> None:
        super().__init__()
        self._layer = [layer]  # in a list: not a child of this module
        self.start = grid
        self.codes = nn.Parameter(grid.codes(weight_to_rows(layer, layer.weight.detach())))
        self.factor = nn.Parameter(torch.ones_like(grid.scale))  # of the starting scale

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that the codes stand for; of `weight` only the shape is read."""
        factor = self.factor.abs().clamp(min=1e-3)
        scale = self.start.scale * factor
        if takes(self.codes):
            rows: Tensor = CodeRows.apply(
                self.codes, scale, self.start.zero_point, self.start.levels
            )
        else:
            codes = round_through(self.codes.clamp(0, self.start.levels))
            rows = (codes - self.start.zero_point) * scale
        return rows_to_weight(self._layer[0], rows, weight.shape)

    def fixed(self) -> UniformGrid:
        """Return the grid with the trained scales."""
        return self.start.scaled(self.factor.detach().abs().clamp(min=1e-3))


@contextmanager
def trainable_scales(
    model: Any, sites: list[Site]
) -> Iterator[tuple[list[LearnedRows], list[LearnedGrid]]]:
    """Train the scales of rounded weights and of activations of some sites, and weights' codes.

    On leaving, all are fixed. Nothing is dropped meanwhile.
    """
    rows: dict[Site, LearnedRows] = {}
    with _learned_grids(model, sites, 1.0, torch.Generator()) as learned:
        for site in sites:
            layer = slots.weight_layer(model, site)
            if layer is not None and layer.weight_grid is not None:
                rows[site] = LearnedRows(layer.layer, layer.weight_grid)
                parametrize.register_parametrization(layer.layer, "weight", rows[site], unsafe=True)
        try:
            yield list(rows.values()), learned
        finally:
            for site, trained in rows.items():
                slots.layer(model, site).weight_grid = trained.fixed()
                _fix_weight_(model, site)


@contextmanager
def trainable(
    model: Any,
    sites: list[Site],
    keep: float,
    generator: torch.Generator,
    weights: bool = True,
) -> Iterator[tuple[list[SoftRounding], list[LearnedGrid]]]:
    """Train rounding and scales of some sites; on leaving everything is hard, fixed, undropped.

    The sites must have their grids; weights must not be rounded yet, or `weights` be False, which
    leaves them alone.
    """
    roundings: dict[Site, SoftRounding] = {}
    with _learned_grids(model, sites, keep, generator) as learned:
        for site in sites:
            layer = slots.weight_layer(model, site)
            if weights and layer is not None and layer.weight_grid is not None:
                roundings[site] = SoftRounding(layer.layer, layer.weight_grid)
                parametrize.register_parametrization(
                    layer.layer, "weight", roundings[site], unsafe=True
                )
        try:
            yield list(roundings.values()), learned
        finally:
            for site, rounding in roundings.items():
                rounding.hard = True
                _fix_weight_(model, site)


@contextmanager
def _learned_grids(
    model: Any, sites: list[Site], keep: float, generator: torch.Generator
) -> Iterator[list[LearnedGrid]]:
    """Train the scales of the activations of some sites; on leaving they are fixed."""
    learned: dict[tuple[Site, str], LearnedGrid] = {}
    for site in sites:
        for operand in slots.operands(site):
            grid = slots.quantizer(model, site, operand)
            if isinstance(grid, Grid):
                learned[site, operand] = LearnedGrid(grid, keep, generator)
                slots.set_quantizer_(model, site, operand, learned[site, operand])
    try:
        yield list(learned.values())
    finally:
        for (site, operand), trained in learned.items():
            slots.set_quantizer_(model, site, operand, trained.fixed())


def _fix_weight_(model: Any, site: Site) -> None:
    """Make a parametrized weight an ordinary one of its present values."""
    layer = slots.layer(model, site).layer
    with torch.no_grad():
        parametrize.remove_parametrizations(layer, "weight")
    layer.weight.requires_grad_(False)
