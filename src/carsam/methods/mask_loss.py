"""How far masks are from the float model's, as what is recognised of the objects sees it."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.families.base import Stage, State

LEAST_AREA = 16.0  # pixels of the low-resolution mask
SINGLE_MASK_SHARE = 0.5


def stages_to_masks(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages up to the one that computes masks; none if there is no such stage."""
    ends = [place for place, stage in enumerate(stages) if "masks" in stage.outputs]
    return tuple(stages[: ends[0] + 1]) if ends else ()


def float_masks(model: Any, rest: Sequence[Stage], states: Sequence[State]) -> tuple[State, ...]:
    """Return masks and ious of float states behind the last unit, `rest` being the stages after it.

    Nothing is returned where no masks are computed.
    """
    rest = stages_to_masks(rest)
    if not rest:
        return tuple(state for state in states if "masks" in state)
    return tuple(run_stages(model, rest, state) for state in states)


def run_stages(model: Any, stages: Sequence[Stage], state: State) -> State:
    """Run stages one after the other."""
    for stage in stages:
        state = stage.run(model, state)
    return state


def mask_loss(outputs: State, targets: State) -> Tensor:
    """Return the divergence of the masks' probabilities, per pixel of the object, mean over boxes.

    Per mask sum over pixels of KL(sigmoid(target) || sigmoid(output)) / max(area, 16) with area the
    float mask's, so that small objects count as much as large ones; the mask of box prompts counts
    as much as the others together. The squared error of the predicted IoUs is added.
    """
    expected = targets["masks"].sigmoid()
    area = expected.sum((2, 3)).clamp(min=LEAST_AREA)  # (P, M)
    entropy = F.binary_cross_entropy_with_logits(targets["masks"], expected, reduction="none")
    crossed = F.binary_cross_entropy_with_logits(outputs["masks"], expected, reduction="none")
    divergence = ((crossed - entropy).sum((2, 3)) / area).mean(0)  # (M,)
    if len(divergence) == 1:
        masks = divergence[0]
    else:
        masks = torch.lerp(divergence[1:].mean(), divergence[0], SINGLE_MASK_SHARE)
    return masks + (outputs["ious"] - targets["ious"]).square().mean()
