"""The grids that the rest of the recipe is going to set, asked of the very steps that set them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from carsam.errors import UserError
from carsam.families.base import Site
from carsam.grids.base import Grid, UniformGrid
from carsam.grids.observers import Statistics
from carsam.methods.base import Unit
from carsam.methods.steps.mac.samples import Inputs
from carsam.methods.steps.mac.versions import Projections
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.softmax.searched_softmax import SearchedSoftmax


@dataclass(frozen=True)
class LaterGrids:
    """What later steps round the operands of an attention to.

    Args:
        ranges: the step that sets the grids of all operands.
        softmax: the one that sets another grid for probabilities; None where none does.
        seed: of the unit.
        device: of the grids.
    """

    ranges: RoundToNearest
    softmax: SearchedSoftmax | None
    seed: int
    device: torch.device

    @classmethod
    def of(cls, unit: Unit) -> "LaterGrids":
        """Find the steps among those that are still to run on a unit.

        Raises:
            UserError: no later step sets grids.
        """
        ranges = [step for step in unit.later if isinstance(step, RoundToNearest)]
        softmax = [step for step in unit.later if isinstance(step, SearchedSoftmax)]
        if not ranges:
            raise UserError(
                "The step compensate needs a later step that sets the grids to compensate for; "
                "put round-to-nearest after it."
            )
        device = next(unit.model.parameters()).device
        return cls(ranges[-1], softmax[-1] if softmax else None, unit.seed, device)

    def of_operand(
        self, site: Site, operand: str, statistics: Statistics, bits: int
    ) -> UniformGrid:
        """Return the grid of an operand with these statistics."""
        return self.ranges.activation_grid(site, operand, statistics, bits, self.device)

    def rounded_weight(self, weight: Tensor, bits: int | None) -> Tensor:
        """Return a weight (rows, columns) rounded to nearest; with None for bits, itself."""
        if bits is None:
            return weight
        rounded: Tensor = self.ranges.weight_grid(weight, bits)(weight)
        return rounded

    def of_probabilities(
        self,
        site: Site,
        statistics: Statistics,
        bits: int,
        projections: Projections,
        images: Iterable[Inputs],
    ) -> Grid:
        """Return the grid of probabilities, found as the later step finds it.

        Args:
            projections: of the attention.
            images: what enters them.
        """
        if self.softmax is None:
            return self.of_operand(site, "probabilities", statistics, bits)
        grids = [grid for grid, _ in self.softmax.candidates(statistics, bits, self.device)]
        search = self.softmax.search(grids, self.seed)
        for inputs in islice(images, self.softmax.images or None):
            rows = search.draw(inputs["query"].shape[1], self.device)
            values = projections.operand("value", inputs)
            search.add(projections.probabilities(inputs, rows), values)
        return grids[search.best]
