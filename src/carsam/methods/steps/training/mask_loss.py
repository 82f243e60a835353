"""How far masks are from the float model's, weighted so that all objects count alike."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.families.base import Stage, State

LEAST_AREA = 16.0  # pixels of the low-resolution mask
SINGLE_MASK_SHARE, CLICKED_SHARE = 0.7, 0.25
"""How much the first mask counts, the one that answers boxes, and how much where a click asks."""
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


def mask_loss(outputs: State, targets: State, clicked: Tensor | None = None) -> Tensor:
    """Return the divergence of the masks' probabilities, per pixel of the object, mean of prompts.

    Per mask sum over pixels of KL(sigmoid(target) || sigmoid(output)) / max(area, 16) with area the
    float mask's, so that small objects count as much as large ones; `mask_shares` says how much
    each mask counts. The squared error of the predicted IoUs is added five times.

    Args:
        clicked: (P,), which prompts are clicks; none unless given.
    """
    expected = targets["masks"].sigmoid()
    entropy = F.binary_cross_entropy_with_logits(targets["masks"], expected, reduction="none")
    crossed = F.binary_cross_entropy_with_logits(outputs["masks"], expected, reduction="none")
    divergence = (crossed - entropy).sum((2, 3)) / mask_areas(expected)  # (P, M)
    masks = (divergence * mask_shares(expected, clicked)).sum(1).mean()
    return masks + IOU_WEIGHT * (outputs["ious"] - targets["ious"]).square().mean()


def score_loss(outputs: State, targets: State) -> Tensor:
    """Return the divergence of the objects' scores (P, 1), as probabilities of being there."""
    expected = targets["scores"].sigmoid()
    entropy = F.binary_cross_entropy_with_logits(targets["scores"], expected)
    return F.binary_cross_entropy_with_logits(outputs["scores"], expected) - entropy


def mask_areas(probabilities: Tensor) -> Tensor:
    """Return the areas (P, M) of masks' probabilities (P, M, h, w), at least 16."""
    return probabilities.sum((2, 3)).clamp(min=LEAST_AREA)


def mask_shares(masks: Tensor, clicked: Tensor | None = None) -> Tensor:
    """Return how much each of the masks (P, M, h, w) counts, (P, M), one in all for each prompt.

    Boxes are answered with the first mask, clicks mostly with the best of the others.

    Args:
        clicked: (P,), which prompts are clicks; none unless given.
    """
    count, others = masks.shape[0], masks.shape[1] - 1
    if not others:
        return masks.new_ones(count, 1)
    first = masks.new_full((count, 1), SINGLE_MASK_SHARE)
    if clicked is not None:
        first[clicked] = CLICKED_SHARE
    return torch.cat([first, ((1 - first) / others).expand(-1, others)], dim=1)
