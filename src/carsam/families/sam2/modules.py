"""What we use of transformers' modules of SAM 2, so that a type checker sees a wrong name.

transformers writes these modules without types. A test compares the names with the real classes.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from carsam.families.sam.modules import Layer, SamFeedForward, SamMaskDecoder


class Sam2MultiScaleBlock(Protocol):
    """A block of Hiera; a window size of 0 is global attention.

    A block with a `query_stride` pools its queries and with them its output; it has a `proj`.
    """

    dim: int
    dim_out: int
    layer_norm1: Layer
    layer_norm2: Layer
    attn: Layer
    mlp: Layer
    proj: Layer
    window_size: int
    query_stride: Any


class Sam2VisionNeck(Protocol):
    """One 1 x 1 convolution for each level; the first belongs to the coarsest level."""

    convs: Sequence[Layer]


class Sam2MaskDecoder(SamMaskDecoder, Protocol):
    """SAM's decoder with a token for whether there is an object, and finer levels."""

    obj_score_token: Any
    pred_obj_score_head: SamFeedForward
    conv_s0: Layer
    conv_s1: Layer

    def __call__(self, **inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
