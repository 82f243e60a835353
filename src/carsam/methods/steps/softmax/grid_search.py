"""The best of several grids for one operand, by the error of the float product that it enters."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.families.base import Site
from carsam.grids.base import Grid
from carsam.grids.listed_products import ListedProducts
from carsam.grids.tables import TableGrid
from carsam.methods.base import Unit
from carsam.methods.inspecting.operands import in_float, listening, run
from carsam.simulation import on_kernels, slots
from carsam.simulation.attention import rounding_of_probabilities

G = TypeVar("G", bound=Grid)


def best_for_input(unit: Unit, site: Site, grids: Sequence[G]) -> G:
    """Return the grid of a linear's input with the least squared error of the output."""
    weight = slots.layer(unit.model, site).layer.weight
    roundings = [on_kernels.rounding(grid) for grid in grids]
    errors = torch.zeros(len(grids), dtype=torch.float64)

    def compare(values: Tensor) -> None:
        for index, rounded in enumerate(roundings):
            errors[index] += float(F.linear(rounded(values) - values, weight).square().sum())

    with in_float(unit), listening(unit, {(site, "input"): compare}):
        run(unit, unit.inputs)
    return grids[int(errors.argmin())]


class ProbabilitySearch:
    """Adds up |A^ V - A V|**power of several grids of probabilities A, piece by piece.

    Args:
        grids: to choose from.
        power: of the error.
        queries: rows of A that are compared, in each piece.
        seed: chooses the rows.
    """

    def __init__(self, grids: Sequence[Grid], power: float, queries: int, seed: int) -> None:
        self._roundings = [rounding_of_probabilities(grid) for grid in grids]
        listed = [grid for grid in grids if isinstance(grid, TableGrid)]
        self._listed = ListedProducts(listed) if len(listed) == len(grids) else None
        self._power, self._queries, self._seed = power, queries, seed
        self._errors = torch.zeros(len(grids), dtype=torch.float64)
        self._generator: torch.Generator | None = None

    def draw(self, rows: int, device: torch.device) -> Tensor:
        """Return which of so many rows of A are to be compared next."""
        if self._generator is None:
            self._generator = torch.Generator(device).manual_seed(self._seed)
        return torch.randperm(rows, generator=self._generator, device=device)[: self._queries]

    def add(self, some: Tensor, values: Tensor) -> None:
        """Compare on rows of A (batch, heads, rows, keys), with V (batch or 1, heads, keys, d)."""
        values = values.contiguous()
        product = some @ values
        for index, rounded in enumerate(self._products(some, values)):
            self._errors[index] += float((rounded - product).abs().pow(self._power).sum())

    def _products(self, some: Tensor, values: Tensor) -> Iterable[Tensor]:
        """Return A^ V for each of the grids."""
        if self._listed is not None and self._listed.takes(some):
            return self._listed(some, values).unbind(3)
        return (rounding(some) @ values for rounding in self._roundings)

    @property
    def best(self) -> int:
        """Which grid has the least error."""
        return int(self._errors.argmin())
