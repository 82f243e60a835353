"""Grids uniform in a shifted logarithm for every softmax."""

from dataclasses import dataclass

import torch

from carsam.families.base import Site
from carsam.grids.tables import Log1pGrid
from carsam.methods.base import Unit
from carsam.methods.steps.softmax.grid_search import searched_probabilities

CURVATURES = tuple(4.0**power for power in range(-1, 8))
SHRINKS = (1.0, 0.8, 0.6, 0.4, 0.2)


@dataclass(frozen=True)
class LogarithmicSoftmax:
    """AHCQ-SAM's logarithmic nonlinear quantization (LNQ; arXiv 2503.03088v4, April 2026).

    A probability a is rounded on the uniform grid of log(1 + k a / s) / log(1 + k). Curvature k
    and largest value s are those of the least |A^ V - A V|^power over all images, with float
    values V.

    Where we differ: how the paper finds its parameters is not known to us; the search is that of
    adaptive granularity.

    Args:
        power: of the error.
        queries: rows that are compared, in each piece of attention.
    """

    power: float = 2.4
    queries: int = 256
    needs_histograms = False
    needs_quantized_path = False

    def run_(self, unit: Unit) -> None:
        """Give every attention of the unit such a grid for its probabilities."""
        device = next(unit.model.parameters()).device

        def candidates(site: Site, bits: int) -> list[Log1pGrid]:
            largest = max(unit.statistics[site.path, "probabilities"].highs)
            return [
                Log1pGrid(
                    torch.tensor([largest * shrink], device=device),
                    torch.tensor([curvature], device=device),
                    bits,
                )
                for curvature in CURVATURES
                for shrink in SHRINKS
            ]

        for site, grid in searched_probabilities(unit, candidates, self.power, self.queries):
            unit.notes.append(
                {
                    "step": "logarithmic-softmax",
                    "site": site.path,
                    "curvature": float(grid.curvature),
                    "scale": float(grid.scale),
                }
            )
