"""The float model, kept to answer any prompt while the quantized one is trained."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from carsam.families.base import Stage, State, split_after_encoder, split_before_boxes
from carsam.methods.steps.training.feature_loss import Features, run_noting
from carsam.methods.steps.training.mask_loss import run_stages, stages_to_masks


class Teacher:
    """A copy of a float model after its encoder, with the embedding of every image.

    Its answers come from torch's own norms and GELU, as the trained model's outputs do.

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
        _, later = split_after_encoder(stages_to_masks(stages))
        self._first, self._stages = split_before_boxes(later)
        self._model = copy_after_encoder(model, stages).requires_grad_(False)
        self._states = states
        self._embeddings: dict[int, State] = {}
        self._followed: dict[int, State] = {}

    def answer(self, image: int, prompts: Tensor | None) -> tuple[State, Features]:
        """Return `masks` (P, M, 4h, 4w), `ious` (P, M) and features of prompts (1, P, 4).

        Without prompts the image is a clip's, whose objects are always the same: what is found of
        them, their `scores` (P, 1) too, is remembered, without the features, which are large.
        """
        if prompts is not None:
            return self._answer(image, {"prompts": prompts})
        if image not in self._followed:
            self._followed[image], _ = self._answer(image, {})
        return self._followed[image], []

    def _answer(self, image: int, prompts: State) -> tuple[State, Features]:
        with torch.enable_grad():  # nothing requires gradients; without them norms are reproduced
            if image not in self._embeddings:
                state = run_stages(self._model, self._first, self._states[image])
                self._embeddings[image] = state
            state = {**self._embeddings[image], **prompts}
            state, features = run_noting(self._model, self._stages, state)
        found: State = {name: state[name] for name in ("masks", "ious", "scores") if name in state}
        return found, features


def copy_after_encoder(model: Any, stages: tuple[Stage, ...]) -> Any:
    """Return a copy of a model that shares the encoder's blocks with it.

    Args:
        stages: of the model.
    """
    encoder, _ = split_after_encoder(stages)
    blocks = (model.get_submodule(stage.block or stage.path) for stage in encoder)
    return copy.deepcopy(model, {id(block): block for block in blocks})
