"""Adaptive granularity (AGQ): a logarithmic grid for every softmax, as fine as it needs."""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from carsam.errors import UserError
from carsam.grids.observers import Statistics
from carsam.grids.tables import LogGrid
from carsam.methods.parameters import Between
from carsam.methods.steps.softmax.searched_softmax import Candidate, SearchedSoftmax


@dataclass(frozen=True)
class AdaptiveGranularity(SearchedSoftmax):
    """PTQ4SAM's adaptive granularity quantization (AGQ; Lv et al., CVPR 2024, arXiv 2405.03144).

    Probabilities a go to s 2^(-c / t) or 0. Granularity t and scale s are searched
    (`SearchedSoftmax`).

    Where we differ: s is searched over the images together instead of averaged over each one's
    best, on a list of candidates, on at most `queries` rows of each piece of attention; 0 is one
    of the 2**bits codes.

    Args:
        granularities: choices of t, separated by commas; `2` alone is RepQ-ViT's log-sqrt2.
        scales: how many s to try, from the largest probability down by factors of 2^(1/4).
    """

    granularities: str = "1,2,4"
    scales: Annotated[int, Between(1, 64)] = 24
    name: ClassVar[str] = "adaptive-granularity"

    def __post_init__(self) -> None:
        if re.fullmatch(r"[1-9]\d?(,[1-9]\d?)*", self.granularities) is None:
            raise UserError(
                f'Granularities "{self.granularities}" are not understood; write for example 1,2,4.'
            )

    def candidates(
        self, statistics: Statistics, bits: int, device: torch.device
    ) -> list[Candidate]:
        """Return the grids of every granularity and scale."""
        scales = max(statistics.highs) * torch.exp2(-torch.arange(self.scales, device=device) / 4)
        return [
            (LogGrid(scale[None], t, bits), {"granularity": t, "scale": float(scale)})
            for t in self._choices()
            for scale in scales
        ]

    def _choices(self) -> list[int]:
        return [int(choice) for choice in self.granularities.split(",")]
