"""Codebooks for inputs of layers."""

from dataclasses import dataclass

from carsam.errors import UserError
from carsam.families.base import Site
from carsam.grids.base import UniformGrid
from carsam.grids.best_codebook import best_codebook, uniform_error
from carsam.methods.base import Unit, UnitStep
from carsam.methods.cost import Cost, Trial
from carsam.methods.order import Outcome
from carsam.simulation import slots


@dataclass(frozen=True)
class CodebookInputs(UnitStep):
    """Non-uniform grids for the inputs of layers: the best 2^b of 256 uniform values.

    Args:
        gain: an input gets its codebook if the uniform grid's squared error is at least so many
            times as large.
    """

    gain: float = 1.0
    needs = frozenset({Outcome.GRIDS})
    makes = frozenset({Outcome.TOKENS, Outcome.ACTIVATED})
    precedes = frozenset({Outcome.TRAINING, Outcome.INPUT_COMPENSATION})

    def __post_init__(self) -> None:
        if not self.gain >= 0:
            raise UserError(f"codebook-inputs: gain is {self.gain}; expected 0 or more.")

    def reads_histogram(self, site: Site, operand: str) -> bool:
        """Return True, of layers' inputs."""
        return operand == "input"

    def cost(self, trial: Trial) -> Cost:
        """Return the time of one try: only statistics are looked at, whatever the images."""
        return Cost(trial.seconds(self, 1))

    def run_(self, unit: Unit) -> None:
        """Replace uniform grids in front of the unit's layers."""
        for site, bits in unit.sites:
            if slots.weight_layer(unit.model, site) is None or bits.activations is None:
                continue
            grid = slots.quantizer(unit.model, site, "input")
            if bits.activations < 8 and isinstance(grid, UniformGrid):
                statistics = unit.statistics[site.path, "input"]
                book, error = best_codebook(statistics, bits.activations)
                gain = uniform_error(statistics, grid) / error if error > 0 else 0.0
                if gain >= self.gain:
                    slots.set_quantizer_(unit.model, site, "input", book.to(grid.scale.device))
                    unit.notes.append(
                        {"step": "codebook-inputs", "site": site.path, "gain": round(gain, 2)}
                    )
