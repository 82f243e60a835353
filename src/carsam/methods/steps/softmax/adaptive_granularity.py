"""Adaptive granularity: a logarithmic grid for every softmax, as fine as its attention needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from carsam.errors import UserError
from carsam.families.base import Site
from carsam.grids.tables import LogGrid
from carsam.methods.base import Unit
from carsam.methods.steps.softmax.grid_search import searched_probabilities


@dataclass(frozen=True)
class AdaptiveGranularity:
    """PTQ4SAM's adaptive granularity quantization (AGQ; Lv et al., CVPR 2024, arXiv 2405.03144).

    Probabilities a go to s 2^(-c / t) or 0. Granularity t and scale s are those of the least
    |A^ V - A V|^power over all images, with float values V.

    Where we differ: s is searched over the images together instead of averaged over each one's
    best, on a list of candidates, on at most `queries` rows of each piece of attention; 0 is one
    of the 2**bits codes.

    Args:
        granularities: choices of t, separated by commas; `2` alone is RepQ-ViT's log-sqrt2.
        power: of the error.
        candidates: scales to try, from the largest probability down by factors of 2^(1/4).
        queries: rows that are compared.
    """

    granularities: str = "1,2,4"
    power: float = 2.4
    candidates: int = 24
    queries: int = 256
    needs_histograms = False
    needs_quantized_path = False

    def __post_init__(self) -> None:
        try:
            self._choices()
        except ValueError:
            raise UserError(
                f'Granularities "{self.granularities}" are not understood; write for example 1,2,4.'
            ) from None

    def run_(self, unit: Unit) -> None:
        """Give every attention of the unit a logarithmic grid for its probabilities."""
        device = next(unit.model.parameters()).device

        def candidates(site: Site, bits: int) -> list[LogGrid]:
            largest = max(unit.statistics[site.path, "probabilities"].highs)
            return logarithmic_grids(largest, bits, self._choices(), self.candidates, device)

        for site, grid in searched_probabilities(unit, candidates, self.power, self.queries):
            unit.notes.append(
                {
                    "step": "adaptive-granularity",
                    "site": site.path,
                    "granularity": grid.granularity,
                    "scale": float(grid.scale),
                }
            )

    def _choices(self) -> list[int]:
        return [int(choice) for choice in str(self.granularities).split(",")]


def logarithmic_grids(
    largest: float, bits: int, granularities: Sequence[int], scales: int, device: torch.device
) -> list[LogGrid]:
    """Return the grids of some granularities, with scales from `largest` down by 2^(1/4)."""
    candidates = largest * torch.exp2(-torch.arange(scales, device=device) / 4)
    return [LogGrid(scale[None], t, bits) for t in granularities for scale in candidates]
