"""Probabilities relative to their row's largest, for every softmax."""

from dataclasses import dataclass

import torch

from carsam.families.base import Site
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.methods.base import Unit
from carsam.methods.steps.softmax.grid_search import searched_probabilities

CURVATURES = (0.0, *(2.0**power for power in range(-1, 15)))


@dataclass(frozen=True)
class RowMaximumSoftmax:
    """Codes of exp(score - largest score of the row), normalised after the product.

    The grid is uniform in log(1 + k p), k being of the least |A^ V - A V|^power over some images,
    with float values V; see `RowMaximumGrid`.

    Args:
        power: of the error.
        queries: rows that are compared, in each piece of attention.
        images: on which they are compared.
    """

    power: float = 2.0
    queries: int = 256
    images: int = 8
    needs_histograms = False
    needs_quantized_path = False

    def run_(self, unit: Unit) -> None:
        """Give every attention of the unit such a grid for its probabilities."""
        device = next(unit.model.parameters()).device
        curvatures: dict[RowMaximumGrid, float] = {}

        def candidates(_: Site, bits: int) -> list[RowMaximumGrid]:
            grids = row_maximum_grids(bits, device)
            curvatures.update(zip(grids, CURVATURES, strict=True))
            return grids

        settings = self.power, self.queries, self.images
        for site, grid in searched_probabilities(unit, candidates, *settings):
            unit.notes.append(
                {
                    "step": "row-maximum-softmax",
                    "site": site.path,
                    "curvature": curvatures[grid],
                }
            )


def row_maximum_grids(bits: int, device: torch.device) -> list[RowMaximumGrid]:
    """Return the candidates, one for each of `CURVATURES`."""
    return [RowMaximumGrid.curved(curvature, bits, device) for curvature in CURVATURES]
