"""Probabilities relative to their row's largest, for every softmax."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from carsam.grids.observers import Statistics
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.methods.parameters import CountFromZero, Positive
from carsam.methods.steps.softmax.searched_softmax import Candidate, SearchedSoftmax

CURVATURES = (0.0, *(2.0**power for power in range(-1, 15)))


@dataclass(frozen=True)
class RowMaximumSoftmax(SearchedSoftmax):
    """Codes of exp(score - largest score of the row), normalised after the product.

    The grid is uniform in log(1 + k p); k is searched (`SearchedSoftmax`), on eight images. See
    `RowMaximumGrid`.
    """

    power: Positive = 2.0
    images: CountFromZero = 8
    name: ClassVar[str] = "row-maximum-softmax"

    def candidates(
        self, statistics: Statistics, bits: int, device: torch.device
    ) -> list[Candidate]:
        """Return one grid for each of `CURVATURES`; the statistics do not matter."""
        return [
            (RowMaximumGrid.curved(curvature, bits, device), {"curvature": curvature})
            for curvature in CURVATURES
        ]
