"""SAM 2's decoder where its results are not the end: masks become memories, tokens pointers.

Whatever is rounded to codes later must not depend on the order of a sum, so the mask head sums in
float64 and rounds once.
"""

from typing import Any

import torch
from torch import Tensor

from carsam.families.base import Stage, State
from carsam.families.sam.decoding import logits_of
from carsam.families.sam.stages import two_way_stages
from carsam.families.sam2.family import masks_of, tokens_of, without_memory
from carsam.families.sam2.sites import NAMES
from carsam.families.sam2_video.sites import POINTER
from carsam.families.video import Tracked

SEVERAL, SINGLE = slice(1, None), slice(0, 1)


def decode(
    model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
) -> Tracked:
    """Decode prompts of P objects on an embedding that holds a memory, or what stands for none."""
    image, s1, s0 = embedding
    given = {name.removeprefix("input_"): tensor for name, tensor in prompts.items()}
    objects = max(given[name].shape[1] for name in ("points", "boxes") if name in given)
    # Transformers' own attention mixes up what is kept once for all objects.
    image = image.expand(objects, -1, -1, -1)
    state = tokens_of(model, {"s0": s0, "s1": s1, **given}, image)
    for stage in two_way_stages(model, NAMES):
        state = stage.run(model, state)
    state = _run_pointers(model, run_mask_head(model, state))
    masks, ious, scores, pointers = (
        state[name][None] for name in ("masks", "ious", "scores", "pointers")
    )
    chosen = SEVERAL if multimask_output else SINGLE
    pointers = pointers[:, :, chosen]
    if not multimask_output and model.mask_decoder.dynamic_multimask_via_stability:
        masks, ious = model.mask_decoder._dynamic_multimask_via_stability(masks, ious)
    else:
        masks, ious = masks[:, :, chosen], ious[:, :, chosen]
    return Tracked(masks, ious, scores, pointers)


def run_tokens(model: Any, state: State) -> State:
    """Make the tokens, and the image's of what was recalled or of what stands for no memory."""
    image = state["recalled"] if "recalled" in state else without_memory(model, state["hidden"])
    return tokens_of(model, state, image)


def run_mask_head(model: Any, state: State) -> State:
    """Make masks, IoUs and scores; `masks_of` says which."""
    return masks_of(model, state, _rounded_once)


def pointer_stage() -> Stage:
    """Return the stage that makes pointers (P, M, C) of the masks' tokens."""
    return Stage(POINTER, _run_pointers, ("pointers",), per_box=("pointers",))


def _run_pointers(model: Any, state: State) -> State:
    """Make a pointer of each mask's token; they follow those of the score and of the IoU."""
    tokens = state["tokens"][0][:, 2 : 2 + state["masks"].shape[1]]
    return {**state, "pointers": model.object_pointer_proj(tokens)}


def _rounded_once(kernels: Tensor, upscaled: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return logits_of(kernels, upscaled)
    return logits_of(kernels.double(), upscaled.double()).float()
