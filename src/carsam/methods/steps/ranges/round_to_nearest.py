"""Round to nearest: a grid for every operand from its statistics, every weight to its grid."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from carsam.errors import UserError
from carsam.families.base import Site
from carsam.grids.base import UniformGrid
from carsam.grids.observers import (
    ACTIVATION_OBSERVERS,
    NEED_HISTOGRAM,
    WEIGHT_OBSERVERS,
    Statistics,
    activation_grid,
)
from carsam.methods.base import Unit, UnitStep
from carsam.methods.cost import Cost, Trial
from carsam.methods.order import SPECIAL_GRIDS, Outcome
from carsam.methods.recipe import Step
from carsam.simulation import slots
from carsam.simulation.layers import weight_to_rows

GRIDS_FIRST = Step("round-to-nearest", {"rounds_weights": False})
"""Grids for everything, while weights stay float for a later step that rounds them."""

GRIDS_BUT_SOFTMAX_FIRST = Step("round-to-nearest", {"rounds_weights": False, "softmax": False})
"""The same without the probabilities, whose grid the step after it searches."""


@dataclass(frozen=True)
class RoundToNearest(UnitStep):
    """Static uniform quantization without any optimisation.

    Args:
        weights: observer of the weights, per output channel: `minmax` or `mse`.
        activations: observer of the activations, per tensor: `minmax`, `averaged-minmax`,
            `percentile` or `mse`.
        decoder_keys: observer of the keys of the decoder's attentions; without one, `activations`.
        rounds_weights: False only sets the grids, for a step that rounds by itself.
        softmax: False leaves the probabilities to a later step, which finds their grid itself.
    """

    weights: str = "mse"
    activations: str = "mse"
    decoder_keys: str = ""
    rounds_weights: bool = True
    softmax: bool = True

    precedes = SPECIAL_GRIDS | {Outcome.GRIDS, Outcome.ROUNDING, Outcome.TRAINING}

    def __post_init__(self) -> None:
        check_observer(self.weights, WEIGHT_OBSERVERS)
        check_observer(self.activations, ACTIVATION_OBSERVERS)
        check_observer(self.decoder_keys or self.activations, ACTIVATION_OBSERVERS)

    def reads_histogram(self, site: Site, operand: str) -> bool:
        """Tell whether the operand's observer reads it."""
        return self._sets(operand) and self._observer(site, operand) in NEED_HISTOGRAM

    @property
    def makes(self) -> frozenset[Outcome]:
        """Grids, and rounded weights."""
        return frozenset({Outcome.GRIDS} | ({Outcome.ROUNDING} if self.rounds_weights else set()))

    def cost(self, trial: Trial) -> Cost:
        """Return the time of one try: weights and statistics are looked at, whatever the images."""
        return Cost(trial.seconds(self, 1))

    def activation_grid(
        self, site: Site, operand: str, statistics: Statistics, bits: int, device: torch.device
    ) -> UniformGrid:
        """Return the grid of an operand with these statistics."""
        return activation_grid(statistics, self._observer(site, operand), bits, device)

    def weight_grid(self, rows: Tensor, bits: int) -> UniformGrid:
        """Return the grid of a weight's rows (outputs, K)."""
        low, high = WEIGHT_OBSERVERS[self.weights](rows, bits)
        return UniformGrid.from_range(low, high, bits)

    def run_(self, unit: Unit) -> None:
        """Give every site of the unit its grids, and round its weights."""
        device = next(unit.model.parameters()).device
        for site, bits in unit.sites:
            if bits.activations is not None:
                for operand in filter(self._sets, slots.operands(site)):
                    statistics = unit.statistics[site.path, operand]
                    grid = self.activation_grid(site, operand, statistics, bits.activations, device)
                    slots.set_quantizer_(unit.model, site, operand, grid)
            layer = slots.weight_layer(unit.model, site)
            if bits.weights is not None and layer is not None:
                rows = weight_to_rows(layer.layer, layer.layer.weight)
                layer.weight_grid = self.weight_grid(rows, bits.weights)
                if self.rounds_weights:
                    layer.round_weight_()

    def _sets(self, operand: str) -> bool:
        return self.softmax or operand != "probabilities"

    def _observer(self, site: Site, operand: str) -> str:
        if operand == "key" and site.kind.startswith("decoder."):
            return self.decoder_keys or self.activations
        return self.activations


def check_observer(name: str, known: Collection[str]) -> None:
    """Raise UserError when an observer is not among those known."""
    if name not in known:
        raise UserError(f"Observer {name} is not known; expected one of {', '.join(known)}.")
