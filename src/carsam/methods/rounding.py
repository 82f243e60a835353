"""Round to nearest: a grid for every operand from its statistics, every weight to its grid."""

from dataclasses import dataclass

import torch

from carsam.errors import UserError
from carsam.families.base import Site, SiteType
from carsam.methods.base import Unit
from carsam.quant import slots
from carsam.quant.grids import UniformGrid
from carsam.quant.layers import weight_to_rows
from carsam.quant.observers import ACTIVATION_OBSERVERS, NEED_HISTOGRAM, WEIGHT_OBSERVERS


@dataclass(frozen=True)
class RoundToNearest:
    """Static uniform quantization without any optimisation.

    Args:
        weights: observer of the weights, per output channel: `minmax` or `mse`.
        activations: observer of the activations, per tensor: `minmax`, `averaged-minmax`,
            `percentile` or `mse`.
    """

    weights: str = "mse"
    activations: str = "mse"

    def __post_init__(self) -> None:
        for name, known in (
            (self.weights, WEIGHT_OBSERVERS),
            (self.activations, ACTIVATION_OBSERVERS),
        ):
            if name not in known:
                raise UserError(
                    f"Observer {name} is not known; expected one of {', '.join(known)}."
                )

    @property
    def needs_histograms(self) -> bool:
        """Whether the activation observer reads histograms."""
        return self.activations in NEED_HISTOGRAM

    def run_(self, unit: Unit) -> None:
        """Quantize every site of the unit."""
        for site, bits in unit.sites:
            if bits.activations is not None:
                for operand in slots.operands(site):
                    grid = self._activation_grid(unit, site, operand, bits.activations)
                    slots.set_quantizer_(unit.model, site, operand, grid)
            if bits.weights is not None and site.type is not SiteType.ATTENTION:
                layer = slots.layer(unit.model, site)
                rows = weight_to_rows(layer.layer, layer.layer.weight)
                low, high = WEIGHT_OBSERVERS[self.weights](rows, bits.weights)
                layer.quantize_weight_(UniformGrid.from_range(low, high, bits.weights))

    def _activation_grid(self, unit: Unit, site: Site, operand: str, bits: int) -> UniformGrid:
        observe = ACTIVATION_OBSERVERS[self.activations]
        low, high = observe(unit.statistics[site.path, operand], bits)
        device = next(unit.model.parameters()).device
        ends = torch.tensor([low, high], device=device)
        return UniformGrid.from_range(ends[:1], ends[1:], bits)
