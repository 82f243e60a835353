"""What a part of the training is."""

from typing import NamedTuple, Protocol

from pictures import Picture
from recipe import TrainingRecipe
from torch import Tensor, nn


class Pictures(NamedTuple):
    """What is cut from."""

    photographs: list[Picture]
    scenes: list[Picture]


class Part(Protocol):
    """Trains some of the model's parameters, which it alone changes.

    Attributes:
        name: of its state's file.
        recipe: stages and settings.
        shares: of a step, each with a batch of its own; the step's loss is their mean.
        trained: holds these parameters under their names in the model.
    """

    name: str
    recipe: TrainingRecipe
    shares: int
    trained: nn.Module

    def start_(self) -> None:
        """Set initial weights, where the part before has none."""

    def read_(self, pictures: Pictures) -> None:
        """Prepare what steps are made of."""

    def loss(self, step: int, share: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of a share of a step, which depends on both numbers alone, and what to watch."""


def part_of(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """A module that shares some modules and parameters of a model, under their names there."""
    part = nn.Module()
    for name in names:
        setattr(part, name, getattr(model, name))
    return part
