"""What a step needs of the steps before it and what it makes, so that recipes can be checked."""

from collections.abc import Callable, Sequence
from enum import StrEnum

from carsam.errors import UserError


class Outcome(StrEnum):
    """What a step has done to a unit, or to the model, that other steps depend on."""

    CENTRES = "taken constants out of inputs"
    INPUT_COMPENSATION = "compensated for the rounding of inputs"
    COMPENSATION = "compensated for the rounding of attention"
    GRIDS = "set the grids"
    SCORE_RANGES = "set the ranges of queries and keys"
    PROBABILITIES = "set the probabilities' grid"
    TOKENS = "set the grids of the tokens that layers read"
    ACTIVATED = "set the grids after activation functions"
    ROUNDING = "rounded the weights"
    TRAINING = "trained the scales"


SPECIAL_GRIDS = frozenset(
    {Outcome.SCORE_RANGES, Outcome.PROBABILITIES, Outcome.TOKENS, Outcome.ACTIVATED}
)
"""Grids of some operands in place of those that all operands get."""

ALL = frozenset(Outcome)


class Ordered:
    """A step that tells where in a recipe it can stand."""

    @property
    def needs(self) -> frozenset[Outcome]:
        """What steps before it must have done."""
        return frozenset()

    @property
    def makes(self) -> frozenset[Outcome]:
        """What it does itself."""
        return frozenset()

    @property
    def spoils(self) -> frozenset[Outcome]:
        """What has to be done again after it."""
        return frozenset()

    @property
    def precedes(self) -> frozenset[Outcome]:
        """What no step before it may have done: it would be lost, or not hold any more."""
        return frozenset()


def check_order(
    recipe: str, steps: Sequence[tuple[str, Ordered]], makers: Callable[[Outcome], Sequence[str]]
) -> None:
    """Check that no step of a recipe undoes another one or comes too early, and none is missing.

    Args:
        recipe: its name.
        steps: all steps with their names, in the order in which they run.
        makers: returns the names of the steps that make an outcome, for the message.

    Raises:
        UserError: they contradict each other.
    """
    made: dict[Outcome, str] = {}
    for name, step in steps:
        for outcome in (each for each in made if each in step.precedes):
            raise UserError(
                f"Recipe {recipe}: {name} cannot come after {made[outcome]}, which has {outcome}. "
                f"Put {name} before it, or leave one of them out."
            )
        for outcome in sorted(step.needs - made.keys()):
            raise UserError(
                f"Recipe {recipe}: {name} needs a step before it that has {outcome}. "
                f"Put one of these there: {', '.join(makers(outcome))}."
            )
        made = {outcome: maker for outcome, maker in made.items() if outcome not in step.spoils}
        made |= dict.fromkeys(step.makes, name)
    for outcome in (Outcome.GRIDS, Outcome.ROUNDING):
        if outcome not in made:
            raise UserError(
                f"Recipe {recipe}: at its end no step has {outcome}. "
                f"Add one of these: {', '.join(makers(outcome))}."
            )
