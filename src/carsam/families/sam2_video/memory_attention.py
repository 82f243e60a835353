"""SAM 2's memory attention: a frame's embedding attends to what is remembered of an object.

The operations are those of transformers' `Sam2VideoMemoryAttention`, with one difference: keys are
rotated by a list of cells instead of by their number and order, so that other memories fit too.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.sam2_video.modeling_sam2_video import (
    eager_attention_forward,
    rotate_pairwise,
)

from carsam.families.rotation import Rotation, rotation
from carsam.families.sam2_video.modules import (
    Sam2VideoMemoryAttention,
    Sam2VideoMemoryAttentionLayer,
    Sam2VideoRoPEAttention,
)
from carsam.families.video import Recollection

POSITION_SHARE = 0.1
"""Of the sine positions, added to the embedding."""


def attend_to_memory(model: Any, image: Tensor, memory: Recollection) -> Tensor:
    """Return the embedding (P, C, h, w) that the memory of P objects makes of an image (1, ...)."""
    size = (image.shape[2], image.shape[3])
    tokens = placed_tokens(model, image).expand(len(memory.values), -1, -1)
    for layer in model.memory_attention.layers:
        table = rotation_table(layer.self_attn, *size, tokens.device)
        tokens = attend_to_itself(layer, tokens, table)
        tokens = attend_across(layer, tokens, table, memory)
        tokens = pass_mlp(layer, tokens)
    return normed_image(model.memory_attention, tokens, size)


def placed_tokens(model: Any, image: Tensor) -> Tensor:
    """Return an image (1, C, h, w) as tokens (1, h * w, C) with a share of their positions."""
    positions = model.vision_encoder.neck.position_encoding(image.shape, image.device, image.dtype)
    return (image + POSITION_SHARE * positions).flatten(2).transpose(1, 2)


def normed_image(
    attention: Sam2VideoMemoryAttention, tokens: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return what the last layer made (P, h * w, C) as images (P, C, h, w)."""
    return attention.layer_norm(tokens).transpose(1, 2).unflatten(2, size)


def attend_to_itself(
    layer: Sam2VideoMemoryAttentionLayer, tokens: Tensor, table: Rotation
) -> Tensor:
    """Add what the tokens (P, n, C) of each image make of each other."""
    normed = layer.layer_norm1(tokens)
    return tokens + _attend(layer.self_attn, normed, normed, normed, table, table)


def attend_across(
    layer: Sam2VideoMemoryAttentionLayer, tokens: Tensor, table: Rotation, memory: Recollection
) -> Tensor:
    """Add what the tokens (P, n, C) of each image make of its object's memory."""
    cells = memory.cells.clamp(min=0)  # the first cell does not turn, as those without a place
    attended = _attend(
        layer.cross_attn_image,
        layer.layer_norm2(tokens),
        memory.values + memory.positions,
        memory.values,
        table,
        (table[0][cells], table[1][cells]),
    )
    return tokens + attended


def pass_mlp(layer: Sam2VideoMemoryAttentionLayer, tokens: Tensor) -> Tensor:
    """Add what the layer's MLP makes of tokens (P, n, C)."""
    return tokens + layer.linear2(layer.activation(layer.linear1(layer.layer_norm3(tokens))))


def rotation_table(
    attention: Sam2VideoRoPEAttention, height: int, width: int, device: torch.device
) -> Rotation:
    """Return the rotation of every cell of a height x width grid, row by row."""
    config = attention.config
    head = config.memory_attention_hidden_size // config.memory_attention_downsample_rate
    head //= attention.num_attention_heads
    theta = float(config.rope_parameters["rope_theta"])
    return rotation(head, theta, (height, width), device)


def _attend(
    attention: Sam2VideoRoPEAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_rotation: Rotation,
    key_rotation: Rotation,
) -> Tensor:
    """Attend from (P, n, C) to keys and values (P, m, D)."""
    module: Any = attention
    queries = _rotated(_by_head(module.q_proj(query), attention), query_rotation)
    keys = _rotated(_by_head(module.k_proj(key), attention), key_rotation)
    values = _by_head(module.v_proj(value), attention)
    multiply = ALL_ATTENTION_FUNCTIONS.get_interface(
        attention.config._attn_implementation, eager_attention_forward
    )
    attended, _ = multiply(
        attention, queries, keys, values, None, scaling=attention.scaling, dropout=0.0
    )
    return attention.o_proj(attended.flatten(2))


def _by_head(tokens: Tensor, attention: Sam2VideoRoPEAttention) -> Tensor:
    """(P, n, heads * d) to (P, heads, n, d)."""
    return tokens.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)


def _rotated(values: Tensor, rotation: Rotation) -> Tensor:
    cosines, sines = rotation
    return values * cosines + rotate_pairwise(values) * sines
