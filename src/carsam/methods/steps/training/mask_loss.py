"""How far masks are from the float model's, weighted so that all objects count alike."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from carsam.families.base import Stage, State

LEAST_AREA = 16.0  # pixels of the low-resolution mask
SINGLE_MASK_SHARE = 0.5
IOU_WEIGHT = 5.0


def stages_to_masks(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages up to the one that computes masks; none if there is no such stage."""
    ends = [place for place, stage in enumerate(stages) if "masks" in stage.outputs]
    return tuple(stages[: ends[0] + 1]) if ends else ()


def run_stages(model: Any, stages: Sequence[Stage], state: State) -> State:
    """Run stages one after the other."""
    for stage in stages:
        state = stage.run(model, state)
    return state


def mask_loss(outputs: State, targets: State) -> Tensor:
    """Return the divergence of the masks' probabilities, per pixel of the object, mean over boxes.

    Per mask sum over pixels of KL(sigmoid(target) || sigmoid(output)) / max(area, 16) with area the
    float mask's, so that small objects count as much as large ones; the mask of box prompts counts
    as much as the others together. The squared error of the predicted IoUs is added five times.
    """
    expected = targets["masks"].sigmoid()
    entropy = F.binary_cross_entropy_with_logits(targets["masks"], expected, reduction="none")
    crossed = F.binary_cross_entropy_with_logits(outputs["masks"], expected, reduction="none")
    divergence = ((crossed - entropy).sum((2, 3)) / mask_areas(expected)).mean(0)  # (M,)
    masks = (divergence * mask_shares(expected)).sum()
    return masks + IOU_WEIGHT * (outputs["ious"] - targets["ious"]).square().mean()


def score_loss(outputs: State, targets: State) -> Tensor:
    """Return the divergence of the objects' scores (P, 1), as probabilities of being there."""
    expected = targets["scores"].sigmoid()
    entropy = F.binary_cross_entropy_with_logits(targets["scores"], expected)
    return F.binary_cross_entropy_with_logits(outputs["scores"], expected) - entropy


def mask_areas(probabilities: Tensor) -> Tensor:
    """Return the areas (P, M) of masks' probabilities (P, M, h, w), at least 16."""
    return probabilities.sum((2, 3)).clamp(min=LEAST_AREA)


def mask_shares(masks: Tensor) -> Tensor:
    """Return how much each of the masks (P, M, h, w) counts, (M,): the first one half."""
    others = masks.shape[1] - 1
    if not others:
        return masks.new_ones(1)
    shares = masks.new_full((others + 1,), (1 - SINGLE_MASK_SHARE) / others)
    shares[0] = SINGLE_MASK_SHARE
    return shares
