"""SAM's blocks, cut into attentions and MLPs that run one by one on a state.

Each function repeats the order of operations of the block it cuts, with the block's own modules;
tests compare the chain of all stages with the model's own forward pass.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from carsam.families.base import NormBefore, Role, SharedOffset, Stage, State
from carsam.families.sam.modules import (
    SamAttention,
    SamTwoWayAttentionBlock,
    SamTwoWayTransformer,
    SamVisionLayer,
)
from carsam.families.sam.sites import Names


def encoder_stages(model: Any) -> Iterator[Stage]:
    """Yield attention and MLP of every encoder block; the state's entry is `hidden`."""
    side = model.config.vision_config.image_size // model.config.vision_config.patch_size
    for index, layer in enumerate(model.vision_encoder.layers):
        block = f"vision_encoder.layers.{index}"
        unpadded = layer.window_size == 0 or side % layer.window_size == 0
        before = NormBefore(f"{block}.layer_norm1", (f"{block}.attn.qkv",), unpadded)
        between = NormBefore(f"{block}.layer_norm2", (f"{block}.mlp.lin1",), True)
        attention = partial(_run_encoder_attention, block=block)
        mlp = partial(_run_encoder_mlp, block=block)
        role = Role.ENCODER_ATTENTION
        yield Stage(f"{block}.attn", attention, ("hidden",), block, role, before)
        yield Stage(f"{block}.mlp", mlp, ("hidden",), block, Role.ENCODER_MLP, between)


def two_way_stages(model: Any, names: Names) -> Iterator[Stage]:
    """Yield the attentions and MLPs of the two-way transformer; entries `tokens` and `image`."""
    parts = (
        ("self_attn", _run_self_attention, "tokens", Role.SELF_ATTENTION),
        ("cross_attn_token_to_image", _run_token_to_image, "tokens", Role.TOKEN_TO_IMAGE),
        ("mlp", _run_decoder_mlp, "tokens", Role.DECODER_MLP),
        ("cross_attn_image_to_token", _run_image_to_token, "image", Role.IMAGE_TO_TOKEN),
    )
    count = len(model.mask_decoder.transformer.layers)
    for index in range(count):
        block = f"mask_decoder.transformer.layers.{index}"
        shared = _shared_by_norms(index, index + 1 == count, names)
        for (name, run, output, role), offset in zip(parts, shared, strict=True):
            running = partial(run, block=block)
            path, made = f"{block}.{name}", (output,)
            yield Stage(path, running, made, block, role, shared=offset, per_box=made)
    final = "mask_decoder.transformer.final_attn_token_to_image"
    made = ("tokens",)
    yield Stage(final, _run_final_attention, made, final, Role.TOKEN_TO_IMAGE, per_box=made)


def image_offset(names: Names) -> SharedOffset:
    """Return the offset of the image tokens before the first block: what stands for no mask."""
    offsets = ("prompt_encoder.no_mask_embed.weight", "prompt_encoder.mask_embed.conv3.bias")
    return _image_offset(offsets, 0, names)


def _shared_by_norms(index: int, last: bool, names: Names) -> tuple[SharedOffset | None, ...]:
    """Return the offsets of a two-way block's norms, each after its part of the block."""
    block, after = (f"mask_decoder.transformer.layers.{n}" for n in (index, index + 1))
    to_image, to_tokens = (f"{block}.cross_attn_{n}" for n in ("token_to_image", "image_to_token"))
    readers: tuple[str, ...] = (f"{to_tokens}.v_proj", f"{to_tokens}.k_proj")
    if last:
        final = "mask_decoder.transformer.final_attn_token_to_image"
        readers += (f"{final}.q_proj",)
        adder = f"{final}.{names.output}"
    else:
        readers += tuple(f"{after}.self_attn.{name}" for name in ("v_proj", "q_proj", "k_proj"))
        adder = f"{after}.self_attn.{names.output}"
    norms = [f"{block}.layer_norm{number}.bias" for number in (1, 2, 3, 4)]
    first, second = (f"{block}.mlp.{name}" for name in names.mlp)
    return (
        SharedOffset((norms[0],), (f"{to_image}.q_proj",), f"{to_image}.{names.output}"),
        SharedOffset((norms[1],), (first,), second),
        SharedOffset((norms[2],), readers, adder),
        # The last image tokens go to the transposed convolution, whose bias cannot hold it.
        None if last else _image_offset((norms[3],), index + 1, names),
    )


def _image_offset(offsets: tuple[str, ...], index: int, names: Names) -> SharedOffset:
    """Return an offset of the image tokens that a block reads."""
    block = f"mask_decoder.transformer.layers.{index}"
    to_image, to_tokens = (f"{block}.cross_attn_{n}" for n in ("token_to_image", "image_to_token"))
    readers = (f"{to_image}.v_proj", f"{to_image}.k_proj", f"{to_tokens}.q_proj")
    return SharedOffset(offsets, readers, f"{to_tokens}.{names.output}")


def _run_encoder_attention(model: Any, state: State, block: str) -> State:
    layer: SamVisionLayer = model.get_submodule(block)
    hidden = state["hidden"]
    attended = layer.layer_norm1(hidden)
    if layer.window_size > 0:
        size = attended.shape[1], attended.shape[2]
        attended, padded = layer.window_partition(attended, layer.window_size)
        attended, _ = layer.attn(hidden_states=attended)
        attended = layer.window_unpartition(attended, layer.window_size, padded, size)
    else:
        attended, _ = layer.attn(hidden_states=attended)
    return {**state, "hidden": hidden + attended}


def _run_encoder_mlp(model: Any, state: State, block: str) -> State:
    layer: SamVisionLayer = model.get_submodule(block)
    hidden = state["hidden"]
    return {**state, "hidden": hidden + layer.mlp(layer.layer_norm2(hidden))}


def _run_self_attention(model: Any, state: State, block: str) -> State:
    layer: SamTwoWayAttentionBlock = model.get_submodule(block)
    tokens = state["tokens"]
    if layer.skip_first_layer_pe:  # the first block replaces the tokens, without a residual
        tokens, _ = layer.self_attn(query=tokens, key=tokens, value=tokens)
    else:
        query = tokens + state["token_positions"]
        attended, _ = layer.self_attn(query=query, key=query, value=tokens)
        tokens = tokens + attended
    return {**state, "tokens": layer.layer_norm1(tokens)}


def _run_token_to_image(model: Any, state: State, block: str) -> State:
    layer: SamTwoWayAttentionBlock = model.get_submodule(block)
    attended = _attend_to_image(layer.cross_attn_token_to_image, state)
    return {**state, "tokens": layer.layer_norm2(state["tokens"] + attended)}


def _run_decoder_mlp(model: Any, state: State, block: str) -> State:
    layer: SamTwoWayAttentionBlock = model.get_submodule(block)
    tokens = state["tokens"]
    return {**state, "tokens": layer.layer_norm3(tokens + layer.mlp(tokens))}


def _run_image_to_token(model: Any, state: State, block: str) -> State:
    layer: SamTwoWayAttentionBlock = model.get_submodule(block)
    image = state["image"]
    attended, _ = layer.cross_attn_image_to_token(
        query=image + state["image_positions"],
        key=state["tokens"] + state["token_positions"],
        value=state["tokens"],
    )
    return {**state, "image": layer.layer_norm4(image + attended)}


def _run_final_attention(model: Any, state: State) -> State:
    transformer: SamTwoWayTransformer = model.mask_decoder.transformer
    attended = _attend_to_image(transformer.final_attn_token_to_image, state)
    tokens = transformer.layer_norm_final_attn(state["tokens"] + attended)
    return {**state, "tokens": tokens}


def _attend_to_image(attention: SamAttention, state: State) -> Tensor:
    attended, _ = attention(
        query=state["tokens"] + state["token_positions"],
        key=state["image"] + state["image_positions"],
        value=state["image"],
    )
    return attended
