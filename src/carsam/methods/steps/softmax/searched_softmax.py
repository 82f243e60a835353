"""The search that all steps for a softmax's grid share; each step offers its candidates."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from carsam.families.base import SiteType
from carsam.grids.base import Grid
from carsam.grids.observers import Statistics
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.operands import in_float, product_inputs
from carsam.methods.order import Outcome
from carsam.methods.parameters import Count, CountFromZero, Positive
from carsam.methods.steps.softmax.grid_search import ProbabilitySearch
from carsam.simulation import slots
from carsam.simulation.attention import parts_at_once, scores_of, softmax
from carsam.simulation.relative_position import RelativePosition

Candidate = tuple[Grid, dict[str, float]]
"""A grid, and the parameters that tell it from the other candidates, for the notes."""


@dataclass(frozen=True)
class SearchedSoftmax(UnitStep):
    """Give every attention's probabilities A the candidate with the least |A^ V - A V|^power.

    The values V are those of the float model.

    Args:
        power: of the error.
        queries: rows of A that are compared, in each piece of attention.
        images: the unit's first images, on which they are compared; 0 for all.
    """

    power: Positive = 2.4
    queries: Count = 256
    images: CountFromZero = 0
    name: ClassVar[str]
    operands: ClassVar[tuple[str, ...]] = ("probabilities",)
    makes = frozenset({Outcome.PROBABILITIES})
    precedes = makes | {Outcome.TRAINING}

    @abstractmethod
    def candidates(
        self, statistics: Statistics, bits: int, device: torch.device
    ) -> list[Candidate]:
        """Return the grids to choose from for probabilities with these statistics."""

    def search(self, grids: Sequence[Grid], seed: int) -> ProbabilitySearch:
        """Return the search for the best of some grids, before any product was compared."""
        return ProbabilitySearch(grids, self.power, self.queries, seed)

    def images_of(self, images: int) -> int:
        """Return the images on which grids are compared."""
        return min(images, self.images or images)

    def run_(self, unit: Unit) -> None:
        """Search a grid for every quantized attention of the unit."""
        device = next(unit.model.parameters()).device
        for site, bits in unit.sites:
            if site.type is not SiteType.ATTENTION or bits.activations is None:
                continue
            statistics = unit.statistics[site.path, "probabilities"]
            candidates = self.candidates(statistics, bits.activations, device)
            search = self.search([grid for grid, _ in candidates], unit.seed)
            with in_float(unit):
                for state in unit.inputs[: self.images or None]:
                    _compare(search, *product_inputs(unit, site, state))
            grid, parameters = candidates[search.best]
            slots.set_quantizer_(unit.model, site, "probabilities", grid)
            unit.notes.append({"step": self.name, "site": site.path, **parameters})


def _compare(
    search: ProbabilitySearch,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    position: RelativePosition | None = None,
) -> None:
    """Compare on some rows of each part of an attention's scores that is computed at once."""
    batch = max(len(query), len(key))
    for part in parts_at_once(query, key):
        q, k, v = (t.expand(batch, -1, -1, -1)[part] for t in (query, key, value))
        rows = search.draw(query.shape[2], query.device)
        search.add(softmax(scores_of(q, k, scaling, position, rows)), v)
