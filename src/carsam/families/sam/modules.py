"""What we use of transformers' modules of SAM and SAM-HQ, so that a type checker sees a wrong name.

transformers writes these modules without types. A test compares the names with the real classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

Layer = Callable[..., Tensor]


class VisionAttention(Protocol):
    """`SamVisionAttention`."""

    use_rel_pos: bool

    def __call__(self, hidden_states: Tensor) -> tuple[Tensor, Any]: ...


class VisionBlock(Protocol):
    """`SamVisionLayer`; a window size of 0 is global attention."""

    layer_norm1: Layer
    layer_norm2: Layer
    attn: VisionAttention
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


class Attention(Protocol):
    """`SamAttention`."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Any]: ...


class TwoWayBlock(Protocol):
    """`SamTwoWayAttentionBlock`."""

    self_attn: Attention
    cross_attn_token_to_image: Attention
    cross_attn_image_to_token: Attention
    mlp: Layer
    layer_norm1: Layer
    layer_norm2: Layer
    layer_norm3: Layer
    layer_norm4: Layer
    skip_first_layer_pe: bool


class TwoWayTransformer(Protocol):
    """`SamTwoWayTransformer`."""

    layers: Sequence[TwoWayBlock]
    final_attn_token_to_image: Attention
    layer_norm_final_attn: Layer


class Head(Protocol):
    """`SamFeedForward`."""

    layers: Sequence[Any]

    def __call__(self, hidden_states: Tensor) -> Tensor: ...


class MaskDecoder(Protocol):
    """`SamMaskDecoder`."""

    transformer: TwoWayTransformer
    iou_token: Any
    mask_tokens: Any
    activation: Layer
    upscale_conv1: Layer
    upscale_conv2: Layer
    upscale_layer_norm: Layer
    output_hypernetworks_mlps: Sequence[Head]
    iou_prediction_head: Head
