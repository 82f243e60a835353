"""What a step is going to take: each step tells it from a few tries on a copy."""

from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from carsam.families.base import Stage

TRIED_STEPS = 3


@dataclass(frozen=True)
class Cost:
    """What a step takes in a whole run.

    Args:
        seconds: for all images, and all steps of training.
        step_seconds: of one step of training; 0 where nothing trains.
    """

    seconds: float
    step_seconds: float = 0.0


class Trial(Protocol):
    """A copy of a unit, or of the model, on which a step is tried.

    Attributes:
        stages: of the unit or of the model.
        images: of the run, views included where the step needs them.
    """

    @property
    def stages(self) -> tuple[Stage, ...]: ...

    @property
    def images(self) -> int: ...

    def seconds(self, step: Any, images: int) -> float:
        """Run a step on the copy, with one image so many times, and return what it took."""
        ...


class Costed:
    """A step that works through the images: one image and a second one tell what all cost."""

    def cost(self, trial: Trial) -> Cost:
        """Return what the step is going to take."""
        one = trial.seconds(self, 1)
        more = trial.seconds(self, 2) - one
        return Cost(one + (self.images_of(trial.images) - 1) * min(one, max(0.0, more)))

    def images_of(self, images: int) -> int:
        """Return how many of so many images the step looks at."""
        return images


class CostedByStep:
    """A step that trains: one step of training and a few more tell what all cost.

    What it does besides, such as the loss before and after, is taken to be done for every image.
    """

    steps: int

    def cost(self, trial: Trial) -> Cost:
        """Return what the step is going to take."""
        first = trial.seconds(self.shortened(1), 1)  # whatever is done once is in it as well
        more = trial.seconds(self.shortened(1 + TRIED_STEPS), 1)
        one = min(first, trial.seconds(self.shortened(1), 1))
        each = max(0.0, more - one) / TRIED_STEPS
        besides = max(0.0, one - each)
        return Cost(self.steps_on(trial.stages) * each + trial.images * besides, each)

    def steps_on(self, stages: tuple[Stage, ...]) -> int:
        """Return the steps of training on a unit, or model, of these stages."""
        return self.steps

    def shortened(self, steps: int) -> Self:
        """Return the step with so many steps of training, wherever it runs."""
        shortened: Self = replace(self, steps=steps)  # type: ignore[type-var]
        return shortened
