"""Hybrid log-uniform grids for what follows an activation function."""

from dataclasses import dataclass
from itertools import product

import torch

from carsam.families.base import Site
from carsam.grids.observers import averaged_minmax
from carsam.grids.tables import LogUniformGrid
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.entry_layers import second_layers
from carsam.methods.order import Outcome
from carsam.methods.steps.softmax.grid_search import best_for_input
from carsam.simulation import slots

LOG_RANGES = (0.1, 0.3, 0.5)
LOG_CODES = (1 / 8, 1 / 4, 1 / 2)


@dataclass(frozen=True)
class HybridLogUniform(UnitStep):
    """AHCPTQ's hybrid log-uniform quantization (HLUQ; Zhang et al., ICCV 2025, arXiv 2503.03088).

    For inputs x of the second layer of every MLP. With R the range of x and o its smallest value
    (means over the images), values up to o + p R get logarithmic codes, a share g of all; the
    others are uniform. Of p in 0.1, 0.3, 0.5 and g in 1/8, 1/4, 1/2 the pair with the least error
    of the float layer's output is taken.

    Where we differ: values are rounded to the nearest of the grid; large values stay large (see
    `LogUniformGrid`); at least two codes are logarithmic, o being one of them.
    """

    operands = ("input",)
    makes = frozenset({Outcome.ACTIVATED})
    precedes = makes | {Outcome.TRAINING}

    def run_(self, unit: Unit) -> None:
        """Give the second layers of the unit's MLPs their grids."""
        for site in second_layers(unit):
            bits = dict(unit.sites)[site].activations
            if bits is not None:
                best = best_for_input(unit, site, self._candidates(unit, site, bits))
                slots.set_quantizer_(unit.model, site, "input", best)
                unit.notes.append(
                    {
                        "step": "hybrid-log-uniform",
                        "site": site.path,
                        "log_codes": best.log_codes,
                        "threshold": float(best.scale[0]),
                    }
                )

    def _candidates(self, unit: Unit, site: Site, bits: int) -> list[LogUniformGrid]:
        device = next(unit.model.parameters()).device
        low, high = averaged_minmax(unit.statistics[site.path, "input"], bits)
        extent = high - low if high > low else 1.0
        grids = []
        for log_range, share in product(LOG_RANGES, LOG_CODES):
            log_codes = max(2, round(share * 2**bits))
            step = extent * (1 - log_range) / (2**bits - log_codes)
            scale = torch.tensor([extent * log_range, step], device=device)
            offset = torch.tensor([low], device=device)
            grids.append(LogUniformGrid(scale, offset, log_codes, bits))
        return grids
