"""SAM 2's memory, cut into stages: how remembered frames become a memory, and how it is recalled.

A still has no memory; it passes all of these stages by.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from carsam.families.base import NormBefore, Role, Sample, Stage, State
from carsam.families.rotation import Rotation
from carsam.families.sam2_video.memory_attention import (
    attend_across,
    attend_to_itself,
    normed_image,
    pass_mlp,
    placed_tokens,
    rotation_table,
)
from carsam.families.sam2_video.memory_encoder import fuse, memory_tokens
from carsam.families.sam2_video.sites import ATTENTION, ENCODER
from carsam.families.video import Recollection

CLIP = (Sample.CLIP,)
FUSED, MEMORY, RECALLED = ("fused",), ("memory_values",), ("recalled",)
SHRUNK = 4
"""Pixels of a remembered mask along a side of one that the decoder makes."""

Run = Callable[..., State]


def memory_stages(model: Any) -> Iterator[Stage]:
    """Yield memory encoder and memory attention.

    The entries of a clip's state are `fused` (P R, C, h, w), then `memory_values` (P, n, D), then
    `recalled`, the tokens (P, h * w, C) of the frame as P objects recall it, (P, C, h, w) at last.
    """
    yield Stage(
        f"{ENCODER}.mask_downsampler",
        _of_clips(_run_masks),
        FUSED,
        per_box=FUSED,
        also=(f"{ENCODER}.feature_projection",),
        samples=CLIP,
    )
    for index in range(len(model.memory_encoder.memory_fuser.layers)):
        path = f"{ENCODER}.memory_fuser.layers.{index}"
        norm = NormBefore(f"{path}.layer_norm", (f"{path}.pointwise_conv1",), True)
        run = _of_clips(partial(_run_fuser, path=path))
        yield Stage(path, run, FUSED, path, norm=norm, per_box=FUSED, samples=CLIP)
    run = _of_clips(_run_projection)
    yield Stage(f"{ENCODER}.projection", run, MEMORY, per_box=MEMORY, samples=CLIP)
    run = _of_clips(_run_placing)
    yield Stage(f"{ATTENTION}.tokens", run, RECALLED, per_box=RECALLED, samples=CLIP)
    for index in range(len(model.memory_attention.layers)):
        yield from _layer_stages(f"{ATTENTION}.layers.{index}")
    run = _of_clips(_run_norm)
    yield Stage(f"{ATTENTION}.layer_norm", run, RECALLED, per_box=RECALLED, samples=CLIP)


def _layer_stages(path: str) -> Iterator[Stage]:
    attention, across = (f"{path}.{name}" for name in ("self_attn", "cross_attn_image"))
    readers = tuple(f"{attention}.{name}_proj" for name in "qkv")
    parts = (
        (attention, _run_self_attention, Role.MEMORY_SELF, readers, ()),
        (across, _run_cross_attention, Role.MEMORY_CROSS, (f"{across}.q_proj",), ()),
        (f"{path}.linear1", _run_mlp, Role.MEMORY_MLP, (f"{path}.linear1",), (f"{path}.linear2",)),
    )
    for number, (place, run, role, reading, also) in enumerate(parts, 1):
        yield Stage(
            place,
            _of_clips(partial(run, path=path)),
            RECALLED,
            path,
            role,
            NormBefore(f"{path}.layer_norm{number}", reading, True),
            per_box=RECALLED,
            also=also,
            samples=CLIP,
        )


def _is_clip(state: State) -> bool:
    return "memory_cells" in state


def _of_clips(run: Run) -> Run:
    """Return a function that leaves a still's state as it is."""

    def run_if_clip(model: Any, state: State) -> State:
        return run(model, state) if _is_clip(state) else state

    return run_if_clip


def _run_masks(model: Any, state: State) -> State:
    """Fuse the remembered frames with their masks, which are made as a session makes them."""
    config = model.config
    side = config.prompt_encoder_config.image_size
    logits = interpolate(state["memory_masks"], (side, side), mode="bilinear")
    if (seen_side := SHRUNK * state["memory_masks"].shape[-1]) != side:  # as SAM 3 remembers them
        logits = interpolate(logits, (seen_side, seen_side), mode="bilinear", antialias=True)
    seen = torch.cat([(logits[:, :1] > 0).float(), logits[:, 1:].sigmoid()], dim=1)
    masks = seen * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
    fused = fuse(model.memory_encoder, state["hidden"][1:], masks)
    left = {name: tensor for name, tensor in state.items() if name != "memory_masks"}
    return {**left, "hidden": state["hidden"][:1], "fused": fused}


def _run_fuser(model: Any, state: State, path: str) -> State:
    return {**state, "fused": model.get_submodule(path)(state["fused"])}


def _run_projection(model: Any, state: State) -> State:
    """Make the memory: tokens of the frames, rounded as a session keeps them, and pointers."""
    scores, pointers = state["memory_scores"], state["pointers"]
    tokens = memory_tokens(model, state["fused"], scores.flatten()[:, None])
    values = tokens.bfloat16().float().unflatten(0, scores.shape).flatten(1, 2)  # (P, R n, D)
    done = ("fused", "memory_scores", "pointers")
    left = {name: tensor for name, tensor in state.items() if name not in done}
    return {**left, "memory_values": torch.cat([values, pointers], dim=1)}


def _run_placing(model: Any, state: State) -> State:
    tokens = placed_tokens(model, state["hidden"])
    return {**state, "recalled": tokens.repeat(len(state["memory_values"]), 1, 1)}


def _run_self_attention(model: Any, state: State, path: str) -> State:
    layer = model.get_submodule(path)
    table = _table(model, layer, state["recalled"])
    return {**state, "recalled": attend_to_itself(layer, state["recalled"], table)}


def _run_cross_attention(model: Any, state: State, path: str) -> State:
    layer = model.get_submodule(path)
    tokens = state["recalled"]
    memory = Recollection(
        state["memory_values"], state["memory_positions"][None], state["memory_cells"]
    )
    table = _table(model, layer, tokens)
    return {**state, "recalled": attend_across(layer, tokens, table, memory)}


def _run_mlp(model: Any, state: State, path: str) -> State:
    return {**state, "recalled": pass_mlp(model.get_submodule(path), state["recalled"])}


def _run_norm(model: Any, state: State) -> State:
    size = model.prompt_encoder.image_embedding_size
    recalled = normed_image(model.memory_attention, state["recalled"], size)
    return {**state, "recalled": recalled}


def _table(model: Any, layer: Any, tokens: Tensor) -> Rotation:
    height, width = model.prompt_encoder.image_embedding_size
    return rotation_table(layer.self_attn, height, width, tokens.device)
