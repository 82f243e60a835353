"""Reconstruction oscillation: how the loss swings from unit to unit, and within one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class LossCurve:
    """The loss of one unit while it was reconstructed, as the run's manifest notes it.

    Args:
        unit: its name; a recipe with several passes has one curve for each.
        before: rounded to nearest, over all images.
        after: when trained; the unit was put back if this was higher (`kept` is False).
        by_step: means of consecutive pieces of the training.
    """

    unit: str
    before: float
    after: float
    kept: bool
    by_step: tuple[float, ...]

    @property
    def rises(self) -> float:
        """Rises of the loss over all its changes, piece by piece: 0 falls steadily, 0.5 swings."""
        changes = [later - earlier for earlier, later in pairwise(self.by_step)]
        total = sum(abs(change) for change in changes)
        return sum(change for change in changes if change > 0) / total if total else 0.0


def loss_curves(notes: Iterable[Mapping[str, Any]]) -> tuple[LossCurve, ...]:
    """Return the curves of a run's notes, in the order of execution; none without training."""
    return tuple(
        LossCurve(
            note["unit"],
            note["loss_before"],
            note["loss_after"],
            note["kept"],
            tuple(note["loss_by_step"]),
        )
        for note in notes
        if "loss_by_step" in note
    )


def swing(curves: Sequence[LossCurve]) -> float:
    """Return how much the final losses differ from one unit to the next.

    The mean of |ln(next / this)|: 0 for equal losses, 0.7 where they double and halve.
    """
    losses = [curve.after if curve.kept else curve.before for curve in curves]
    steps = [abs(math.log(b / a)) for a, b in pairwise(losses) if a > 0 and b > 0]
    return sum(steps) / len(steps) if steps else 0.0
