"""Twin uniform grids for probabilities and for what follows an activation function."""

from dataclasses import dataclass

import torch

from carsam.families.base import Site, SiteType
from carsam.grids.tables import TwinUniformGrid
from carsam.methods.base import Unit
from carsam.methods.steps.softmax.grid_search import best_for_input, best_for_probabilities
from carsam.methods.watching.entry_layers import second_layers
from carsam.simulation import slots

SHRINKS = (1.0, 0.8, 0.6, 0.4)


@dataclass(frozen=True)
class TwinUniform:
    """PTQ4ViT's twin uniform quantization (Yuan et al., ECCV 2022, arXiv 2111.12293).

    Half of the codes form a fine grid, for small probabilities or the negative values behind
    GELU, half a coarse one with steps 2^m times as large. The fine step behind GELU comes from
    its smallest value, the coarse step of probabilities from the largest; m, and a shrinkage of
    the range, have the least squared error of the product or layer that reads the operand.

    Where we differ: its Hessian-guided metric weighs this error by squared gradients of a task
    loss, which there is none of here; values are rounded to the nearest of both grids; behind
    ReLU both grids are positive.

    Args:
        shifts: values of m that are tried, from 0.
        queries: rows of attention that are compared, in each piece.
    """

    shifts: int = 16
    queries: int = 256
    needs_histograms = False
    needs_quantized_path = False

    def run_(self, unit: Unit) -> None:
        """Give probabilities and second layers of MLPs their grids."""
        bits = {site: bits.activations for site, bits in unit.sites}
        seconds = second_layers(unit)
        for site, activations in bits.items():
            if activations is None:
                continue
            if site.type is SiteType.ATTENTION:
                grids = self._candidates(unit, site, "probabilities", activations)
                best = best_for_probabilities(unit, site, grids, 2.0, self.queries)
                slots.set_quantizer_(unit.model, site, "probabilities", best)
            elif site in seconds:
                grids = self._candidates(unit, site, "input", activations)
                best = best_for_input(unit, site, grids)
                slots.set_quantizer_(unit.model, site, "input", best)

    def _candidates(self, unit: Unit, site: Site, operand: str, bits: int) -> list[TwinUniformGrid]:
        device = next(unit.model.parameters()).device
        statistics = unit.statistics[site.path, operand]
        low, high = min(statistics.lows), max(*statistics.highs, torch.finfo(torch.float32).eps)
        steps = 2 ** (bits - 1) - 1
        grids = []
        for shift in range(self.shifts):
            for shrink in SHRINKS:
                fine = -low / steps if low < 0 else high / steps / 2**shift
                scale = torch.tensor([fine * shrink], device=device)
                grids.append(TwinUniformGrid(scale, shift, int(low < 0), bits))
        return grids
