"""What we use of transformers' modules of SAM 3, so that a type checker sees a wrong name.

transformers writes these modules without types. A test compares the names with the real classes.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from carsam.families.sam.modules import Layer


class Sam3ViTRoPEAttention(Protocol):
    """Attention whose queries and keys are rotated by their places."""

    num_attention_heads: int
    head_dim: int

    def __call__(
        self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Any]: ...


class Sam3ViTLayer(Protocol):
    """A block of the encoder; a window size of 0 is global attention."""

    layer_norm1: Layer
    layer_norm2: Layer
    attention: Sam3ViTRoPEAttention
    mlp: Layer
    window_size: int


class Sam3ViTModel(Protocol):
    """Patches with their positions, a norm, blocks."""

    embeddings: Layer
    layer_norm: Layer
    layers: Sequence[Sam3ViTLayer]
