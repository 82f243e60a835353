"""The two faults of released SAM quantization code, on purpose, to measure what they are worth.

In the code of PTQ4SAM and its descendants (1) the inputs of linears and convolutions keep dropping
their quantization at evaluation, so half of the elements pass in float at random, and (2) only the
first layer of each unit is rounded hard; the others keep AdaRound's soft rounding.
Models made here are labelled `legacy`, fail `assert_strict`, and cannot be saved.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from carsam.grids.base import Grid
from carsam.methods.base import Unit
from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.training.reconstruct import Reconstruct, Training
from carsam.simulation import slots
from carsam.simulation.expected import UNFINISHED
from carsam.simulation.trainable import LearnedGrid, SoftRounding, trainable

LAYER_INPUT = "input"


class HalfFloat(nn.Module):
    """Quantizes each value with probability `keep`, at every evaluation anew."""

    def __init__(self, grid: Grid, keep: float) -> None:
        super().__init__()
        self.grid, self.keep = grid, keep

    def forward(self, values: Tensor) -> Tensor:
        """Quantize some of the values."""
        return torch.where(torch.rand_like(values) < self.keep, self.grid(values), values)


@dataclass(frozen=True)
class ReconstructUnfinished(Reconstruct):
    """`Reconstruct` that ends as the released code does: inputs dropping, most weights soft."""

    def _trainable(self, unit: Unit, generator: torch.Generator) -> Training:
        return _left_unfinished(unit, self.keep, generator)


def with_faults(recipe: Recipe) -> Recipe:
    """Return a recipe whose reconstruction has both faults, named `...-legacy`."""
    steps = tuple(
        Step(UNFINISHED, step.parameters) if step.name == "reconstruct" else step
        for step in recipe.steps
    )
    return replace(recipe, name=f"{recipe.name}-legacy", steps=steps)


@contextmanager
def _left_unfinished(
    unit: Unit, keep: float, generator: torch.Generator
) -> Iterator[tuple[list[SoftRounding], list[LearnedGrid]]]:
    sites = [site for site, _ in unit.sites]
    layers = [layer for site in sites if (layer := slots.weight_layer(unit.model, site))]
    with trainable(unit.model, sites, keep, generator) as trained:
        yield trained
        soft = [layer.layer.weight.detach().clone() for layer in layers]
    for layer, weight in list(zip(layers, soft, strict=True))[1:]:
        layer.layer.weight.data.copy_(weight)
        layer.weight_grid = None  # the weight is not on it
    for site in sites:
        if LAYER_INPUT in slots.operands(site):
            grid = slots.quantizer(unit.model, site, LAYER_INPUT)
            if isinstance(grid, Grid):
                slots.set_quantizer_(unit.model, site, LAYER_INPUT, HalfFloat(grid, keep))
