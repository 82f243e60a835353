"""How far what the decoder's parts make is from what the float model's make."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from carsam.families.base import Stage, State

Features = list[Tensor]
"""What stages make of a prompt, in the order of execution: (..., C) each."""


def run_noting(model: Any, stages: Sequence[Stage], state: State) -> tuple[State, Features]:
    """Run stages one after the other; return the state after them, and what they made of prompts.

    The masks are not among it, nor is what only clips have.
    """
    features = []
    for stage in stages:
        state = stage.run(model, state)
        if "masks" not in stage.outputs:
            features += [state[name] for name in stage.per_box if name in state]
    return state, features


def feature_loss(features: Features, targets: Features) -> Tensor:
    """Return the squared error of features, relative to the variance of their targets, mean of all.

    Neither error nor variance has a channel's mean over all prompts and tokens: folding moves
    constants from one layer to the next, which changes a feature and no mask. FitNets (Romero et
    al., ICLR 2015) train with such hints; here student and teacher have the same shapes.
    """
    losses = []
    for feature, target in zip(features, targets, strict=True):
        error, expected = (_centred(rows) for rows in (feature - target, target))
        losses.append(error.square().sum() / expected.square().sum())
    return sum(losses[1:], start=losses[0]) / len(losses)


def _centred(rows: Tensor) -> Tensor:
    """Return rows (..., C) less their channels' means."""
    rows = rows.flatten(0, -2)
    return rows - rows.mean(0)
