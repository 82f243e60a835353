"""Twin uniform grids for probabilities and for what follows an activation function."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from carsam.grids.observers import Statistics
from carsam.grids.tables import TwinUniformGrid
from carsam.methods.base import Unit
from carsam.methods.inspecting.entry_layers import second_layers
from carsam.methods.order import Outcome
from carsam.methods.parameters import Between, Positive
from carsam.methods.steps.softmax.grid_search import best_for_input
from carsam.methods.steps.softmax.searched_softmax import Candidate, SearchedSoftmax
from carsam.simulation import slots

SHRINKS = (1.0, 0.8, 0.6, 0.4)


@dataclass(frozen=True)
class TwinUniform(SearchedSoftmax):
    """PTQ4ViT's twin uniform quantization (Yuan et al., ECCV 2022, arXiv 2111.12293).

    Half of the codes form a fine grid, for small probabilities or the negative values after
    GELU, half a coarse one with steps 2^m times as large. The fine step after GELU comes from
    its smallest value, the coarse step of probabilities from the largest; m, and a shrinkage of
    the range, have the least squared error of the product or layer that reads the operand.

    Where we differ: its Hessian-guided metric weighs this error by squared gradients of a task
    loss, which does not exist here; values are rounded to the nearest of both grids; after
    ReLU both grids are positive.

    Args:
        shifts: values of m that are tried, from 0.
    """

    power: Positive = 2.0
    shifts: Annotated[int, Between(1, 32)] = 16
    name: ClassVar[str] = "twin-uniform"
    operands = ("probabilities", "input")
    makes = frozenset({Outcome.PROBABILITIES, Outcome.ACTIVATED})
    precedes = makes | {Outcome.TRAINING}

    def run_(self, unit: Unit) -> None:
        """Give probabilities and second layers of MLPs their grids."""
        super().run_(unit)
        device = next(unit.model.parameters()).device
        for site in second_layers(unit):
            bits = dict(unit.sites)[site].activations
            if bits is not None:
                candidates = self.candidates(unit.statistics[site.path, "input"], bits, device)
                best = best_for_input(unit, site, [grid for grid, _ in candidates])
                slots.set_quantizer_(unit.model, site, "input", best)

    def candidates(
        self, statistics: Statistics, bits: int, device: torch.device
    ) -> list[Candidate]:
        """Return the grids of every m, for the whole range and for parts of it."""
        low, high = min(statistics.lows), max(*statistics.highs, torch.finfo(torch.float32).eps)
        steps = 2 ** (bits - 1) - 1
        candidates: list[Candidate] = []
        for shift in range(self.shifts):
            for shrink in SHRINKS:
                fine = -low / steps if low < 0 else high / steps / 2**shift
                scale = torch.tensor([fine * shrink], device=device)
                grid = TwinUniformGrid(scale, shift, int(low < 0), bits)
                candidates.append((grid, {"shift": shift, "scale": float(scale)}))
        return candidates
