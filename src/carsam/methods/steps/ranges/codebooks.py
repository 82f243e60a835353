"""Codebooks for inputs of layers and operands of attention."""

from collections.abc import Iterator
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
class Codebooks(UnitStep):
    """Non-uniform grids of least squared error: the best 2^b values of a fine uniform grid.

    They take the place of uniform grids of fewer bits than the fine one's. Probabilities keep
    theirs.

    Args:
        inputs: whether inputs of layers get them.
        attention: whether query, key and value get them.
        fine_bits: of the fine grid, at most 8. Of 7 bits, entries are multiplied about as fast as
            4-bit codes; those of 8 bits take twice as long on some processors.
        gain: an operand gets its codebook if the uniform grid's squared error is at least so many
            times as large.
    """

    inputs: bool = True
    attention: bool = False
    fine_bits: int = 7
    gain: float = 1.0

    needs = frozenset({Outcome.GRIDS})
    precedes = frozenset({Outcome.TRAINING, Outcome.INPUT_COMPENSATION})

    @property
    def makes(self) -> frozenset[Outcome]:
        """Grids of layers' inputs, of queries and keys."""
        inputs = {Outcome.TOKENS, Outcome.ACTIVATED} if self.inputs else set()
        return frozenset(inputs | ({Outcome.SCORE_RANGES} if self.attention else set()))

    def __post_init__(self) -> None:
        if not 2 <= self.fine_bits <= 8:
            raise UserError(f"codebooks: fine_bits is {self.fine_bits}; expected 2 to 8.")
        if not self.gain >= 0:
            raise UserError(f"codebooks: gain is {self.gain}; expected 0 or more.")

    def reads_histogram(self, site: Site, operand: str) -> bool:
        """Return True where the operand may get a codebook."""
        return self._chosen(operand)

    def cost(self, trial: Trial) -> Cost:
        """Return the time of one try: only statistics are looked at, whatever the images."""
        return Cost(trial.seconds(self, 1))

    def run_(self, unit: Unit) -> None:
        """Replace uniform grids of the unit."""
        for site, operand, bits in self._operands(unit):
            grid = slots.quantizer(unit.model, site, operand)
            if bits >= self.fine_bits or not isinstance(grid, UniformGrid):
                continue
            statistics = unit.statistics[site.path, operand]
            book, error = best_codebook(statistics, bits, self.fine_bits)
            gain = uniform_error(statistics, grid) / error if error > 0 else 0.0
            if gain >= self.gain:
                slots.set_quantizer_(unit.model, site, operand, book.to(grid.scale.device))
                unit.notes.append(
                    {"step": "codebooks", "site": site.path, "operand": operand}
                    | {"gain": round(gain, 2)}
                )

    def _operands(self, unit: Unit) -> Iterator[tuple[Site, str, int]]:
        for site, bits in unit.sites:
            for operand in slots.operands(site):
                if bits.activations is not None and self._chosen(operand):
                    yield site, operand, bits.activations

    def _chosen(self, operand: str) -> bool:
        if operand == "input":
            return self.inputs
        return self.attention and operand in ("query", "key", "value")
