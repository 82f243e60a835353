"""Logarithmic nonlinear quantization (LNQ): grids uniform in a shifted logarithm."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from carsam.grids.observers import Statistics
from carsam.grids.tables import Log1pGrid
from carsam.methods.steps.softmax.searched_softmax import Candidate, SearchedSoftmax

CURVATURES = tuple(4.0**power for power in range(-1, 8))
SHRINKS = (1.0, 0.8, 0.6, 0.4, 0.2)


@dataclass(frozen=True)
class LogarithmicSoftmax(SearchedSoftmax):
    """AHCQ-SAM's logarithmic nonlinear quantization (LNQ; arXiv 2503.03088v4, April 2026).

    A probability a is rounded on the uniform grid of log(1 + k a / s) / log(1 + k). Curvature k
    and largest value s are searched (`SearchedSoftmax`).

    Where we differ: k is searched relative to s and further than in the released code, s for all
    images together instead of averaged over each one's best.
    """

    name: ClassVar[str] = "logarithmic-softmax"

    def candidates(
        self, statistics: Statistics, bits: int, device: torch.device
    ) -> list[Candidate]:
        """Return the grids of every curvature, for the whole range and for parts of it."""
        return [
            _candidate(largest, curvature, bits, device)
            for curvature in CURVATURES
            for largest in (max(statistics.highs) * shrink for shrink in SHRINKS)
        ]


def _candidate(largest: float, curvature: float, bits: int, device: torch.device) -> Candidate:
    scale, bend = (torch.tensor([value], device=device) for value in (largest, curvature))
    return Log1pGrid(scale, bend, bits), {"curvature": curvature, "scale": float(scale)}
