"""What a step of a method is given: one stage of the model, its sites, what flows through it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from carsam.families.base import Site, Stage, State
from carsam.quant.observers import Statistics
from carsam.recipe import Bits


@dataclass(frozen=True)
class Unit:
    """One stage under quantization; its weights are still the float model's at the first step.

    Args:
        model: the prepared model; the stages before this one are quantized already.
        stage: runs this part of the model on a state.
        sites: the stage's sites with their bits, those left in float not among them.
        inputs: float activations before the stage, one state per image.
        statistics: of the float activations, by site path and operand.
    """

    model: Any
    stage: Stage
    sites: tuple[tuple[Site, Bits], ...]
    inputs: tuple[State, ...]
    statistics: Mapping[tuple[str, str], Statistics]


class MethodStep(Protocol):
    """A step of a method, with its parameters as fields."""

    @property
    def needs_histograms(self) -> bool:
        """Whether `Unit.statistics` must hold histograms, at the price of a second pass."""
        ...

    def run_(self, unit: Unit) -> None:
        """Change the unit's weights or quantizers."""
        ...
