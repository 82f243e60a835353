"""What we use of transformers' modules of SAM and SAM-HQ, so that a type checker sees a wrong name.

transformers writes these modules without types. A test compares the names with the real classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

Layer = Callable[..., Tensor]


class SamVisionAttention(Protocol):
    """Attention within windows or over the whole image."""

    use_rel_pos: bool

    def __call__(self, hidden_states: Tensor) -> tuple[Tensor, Any]: ...


class SamVisionLayer(Protocol):
    """A block of the encoder; a window size of 0 is global attention."""

    layer_norm1: Layer
    layer_norm2: Layer
    attn: SamVisionAttention
    mlp: Layer
    window_size: int

    def window_partition(
        self, hidden_states: Tensor, window_size: int
    ) -> tuple[Tensor, tuple[int, int]]: ...

    def window_unpartition(
        self,
        windows: Tensor,
        window_size: int,
        padding_shape: tuple[int, int],
        original_shape: tuple[int, int],
    ) -> Tensor: ...


class SamAttention(Protocol):
    """An attention of the two-way transformer."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Any]: ...


class SamTwoWayAttentionBlock(Protocol):
    """A block of the two-way transformer."""

    self_attn: SamAttention
    cross_attn_token_to_image: SamAttention
    cross_attn_image_to_token: SamAttention
    mlp: Layer
    layer_norm1: Layer
    layer_norm2: Layer
    layer_norm3: Layer
    layer_norm4: Layer
    skip_first_layer_pe: bool


class SamTwoWayTransformer(Protocol):
    """Blocks, then a last attention of the tokens to the image."""

    layers: Sequence[SamTwoWayAttentionBlock]
    final_attn_token_to_image: SamAttention
    layer_norm_final_attn: Layer


class SamFeedForward(Protocol):
    """A hypernetwork, or the head that predicts IoUs."""

    layers: Sequence[Any]

    def __call__(self, hidden_states: Tensor) -> Tensor: ...


class SamMaskDecoder(Protocol):
    """The two-way transformer and the mask head."""

    transformer: SamTwoWayTransformer
    iou_token: Any
    mask_tokens: Any
    activation: Layer
    upscale_conv1: Layer
    upscale_conv2: Layer
    upscale_layer_norm: Layer
    output_hypernetworks_mlps: Sequence[SamFeedForward]
    iou_prediction_head: SamFeedForward
