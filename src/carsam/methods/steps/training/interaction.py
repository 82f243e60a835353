"""What the float rest of the model makes of a unit's outputs."""

import torch
from torch import Tensor

from carsam.families.base import Role, Stage, State
from carsam.methods.base import Unit

ENCODER = (Role.ENCODER_ATTENTION, Role.ENCODER_MLP)


def interaction_stages(unit: Unit) -> tuple[Stage, ...]:
    """Return the stages in which image and prompts meet: neck, prompts, two-way blocks.

    The encoder's other blocks are passed over, except where sizes change (SAM 2's pooling); nothing
    is returned after the last image-to-token attention.
    """
    stages = tuple(s for s in unit.following if s.role not in ENCODER or s.resizes)
    ends = [place for place, s in enumerate(stages) if s.role is Role.IMAGE_TO_TOKEN]
    return stages[: ends[-1] + 1] if ends else ()


def interaction_loss(
    unit: Unit, stages: tuple[Stage, ...], outputs: State, targets: State
) -> Tensor:
    """Return the squared error of the image tokens after `stages`, relative to their energy.

    It is summed over channels and averaged over tokens, like a unit's own loss.
    """
    with torch.no_grad():
        expected = _run(unit, stages, targets)
    error = (_run(unit, stages, outputs) - expected).square().mean()
    return error / expected.square().mean() * expected.shape[-1]


def _run(unit: Unit, stages: tuple[Stage, ...], state: State) -> Tensor:
    for stage in stages:
        state = stage.run(unit.model, state)
    return state["image"]
