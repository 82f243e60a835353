"""The float model, kept to answer any prompt while the quantized one is trained."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from carsam.families.base import Stage, State, split_after_encoder
from carsam.methods.steps.training.mask_loss import run_stages, stages_to_masks


class Teacher:
    """A copy of a float model after its encoder, with the encoder's output of every image.

    Args:
        model: the prepared model, still float; its encoder's blocks are not copied.
        stages: of the model.
        states: after the encoder's blocks, one per image.
    """

    def __init__(
        self,
        model: Any,
        stages: tuple[Stage, ...],
        states: Sequence[State],
    ) -> None:
        _, self._stages = split_after_encoder(stages_to_masks(stages))
        self._model = copy_after_encoder(model, stages)
        self._states = states

    def answer(self, image: int, boxes: Tensor) -> State:
        """Return `masks` (P, M, 4h, 4w) and `ious` (P, M) of boxes (1, P, 4) in an image."""
        with torch.no_grad():
            state = run_stages(self._model, self._stages, {**self._states[image], "boxes": boxes})
        return {name: state[name] for name in ("masks", "ious")}


def copy_after_encoder(model: Any, stages: tuple[Stage, ...]) -> Any:
    """Return a copy of a model that shares the encoder's blocks with it.

    Args:
        stages: of the model.
    """
    encoder, _ = split_after_encoder(stages)
    blocks = (model.get_submodule(stage.block or stage.path) for stage in encoder)
    return copy.deepcopy(model, {id(block): block for block in blocks})
