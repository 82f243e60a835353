"""What we use of transformers' modules of SAM 2's memory, so that a type checker sees a wrong name.

transformers writes these modules without types. A test compares the names with the real classes.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from carsam.families.sam.modules import Layer


class Sam2VideoRoPEAttention(Protocol):
    """Attention whose queries and keys are rotated by their places."""

    config: Any
    num_attention_heads: int
    scaling: float
    q_proj: Layer
    k_proj: Layer
    v_proj: Layer
    o_proj: Layer


class Sam2VideoMemoryAttentionLayer(Protocol):
    """Self-attention, attention to the memory, and an MLP, each behind its norm."""

    self_attn: Sam2VideoRoPEAttention
    cross_attn_image: Sam2VideoRoPEAttention
    linear1: Layer
    linear2: Layer
    layer_norm1: Layer
    layer_norm2: Layer
    layer_norm3: Layer
    activation: Layer


class Sam2VideoMemoryAttention(Protocol):
    """Layers and a last norm."""

    config: Any
    layers: Sequence[Sam2VideoMemoryAttentionLayer]
    layer_norm: Layer


class Sam2VideoMemoryFuser(Protocol):
    """Blocks of a depthwise convolution and an MLP."""

    layers: Sequence[Layer]


class Sam2VideoMemoryEncoder(Protocol):
    """Makes a memory of a frame's embedding and of a mask."""

    mask_downsampler: Layer
    feature_projection: Layer
    memory_fuser: Sam2VideoMemoryFuser
    projection: Layer
    position_encoding: Layer
