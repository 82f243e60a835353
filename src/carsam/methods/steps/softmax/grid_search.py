"""The best of several grids for one operand, by the error of the float product that it enters."""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.families.base import Site
from carsam.grids.base import Grid
from carsam.methods.base import Unit
from carsam.methods.inspecting.operands import in_float, listening, run, run_products
from carsam.simulation import slots
from carsam.simulation.attention import rounded_probabilities

G = TypeVar("G", bound=Grid)


def best_for_input(unit: Unit, site: Site, grids: Sequence[G]) -> G:
    """Return the grid of a linear's input with the least squared error of the output."""
    weight = slots.layer(unit.model, site).layer.weight
    errors = torch.zeros(len(grids), dtype=torch.float64)

    def compare(values: Tensor) -> None:
        for index, grid in enumerate(grids):
            errors[index] += float(F.linear(grid(values) - values, weight).square().sum())

    with in_float(unit), listening(unit, {(site, "input"): compare}):
        run(unit, unit.inputs)
    return grids[int(errors.argmin())]


def best_for_probabilities(
    unit: Unit,
    site: Site,
    grids: Sequence[Grid],
    power: float,
    queries: int,
    images: int | None = None,
) -> int:
    """Return which grid of an attention's probabilities A has the least |A^ V - A V|**power.

    Args:
        queries: rows of A that are compared, in each piece.
        images: the unit's first images that are looked at; None for all.
    """
    device = next(unit.model.parameters()).device
    errors = torch.zeros(len(grids), dtype=torch.float64)
    generator = torch.Generator(device).manual_seed(unit.seed)

    def compare(probabilities: Tensor, values: Tensor) -> None:
        rows = probabilities.shape[2]
        chosen = torch.randperm(rows, generator=generator, device=device)[:queries]
        some = probabilities[:, :, chosen]
        for index, grid in enumerate(grids):
            error = rounded_probabilities(grid, some) - some
            errors[index] += float((error @ values).abs().pow(power).sum())

    with in_float(unit):
        run_products(unit, unit.inputs[:images], site, compare)
    return int(errors.argmin())
