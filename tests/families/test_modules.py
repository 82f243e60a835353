"""The protocols name what transformers' modules really have."""

from typing import get_type_hints

import pytest

from carsam.families.sam import modules
from carsam.families.sam2 import modules as modules2
from carsam.families.sam2_video import modules as video_modules
from carsam.families.sam3_tracker import modules as modules3

EXAMPLES = {
    modules.SamVisionAttention: "vision_encoder.layers.0.attn",
    modules.SamVisionLayer: "vision_encoder.layers.0",
    modules.SamAttention: "mask_decoder.transformer.layers.0.self_attn",
    modules.SamTwoWayAttentionBlock: "mask_decoder.transformer.layers.0",
    modules.SamTwoWayTransformer: "mask_decoder.transformer",
    modules.SamFeedForward: "mask_decoder.iou_prediction_head",
    modules.SamMaskDecoder: "mask_decoder",
}

EXAMPLES_OF_SAM2 = {
    modules.SamTwoWayAttentionBlock: "mask_decoder.transformer.layers.0",
    modules2.Sam2MultiScaleBlock: "vision_encoder.backbone.blocks.1",  # a pooled one
    modules2.Sam2VisionNeck: "vision_encoder.neck",
    modules2.Sam2MaskDecoder: "mask_decoder",
    video_modules.Sam2VideoRoPEAttention: "memory_attention.layers.0.cross_attn_image",
    video_modules.Sam2VideoMemoryAttentionLayer: "memory_attention.layers.0",
    video_modules.Sam2VideoMemoryAttention: "memory_attention",
    video_modules.Sam2VideoMemoryFuser: "memory_encoder.memory_fuser",
    video_modules.Sam2VideoMemoryEncoder: "memory_encoder",
}


EXAMPLES_OF_SAM3 = {
    modules3.Sam3ViTRoPEAttention: "vision_encoder.backbone.layers.0.attention",
    modules3.Sam3ViTLayer: "vision_encoder.backbone.layers.0",
    modules3.Sam3ViTModel: "vision_encoder.backbone",
    modules2.Sam2MaskDecoder: "mask_decoder",
}


@pytest.mark.parametrize("protocol", EXAMPLES, ids=lambda protocol: protocol.__name__)
def test_the_real_module_has_every_name(tiny_sam, protocol):
    check_names(protocol, tiny_sam.get_submodule(EXAMPLES[protocol]))


@pytest.mark.parametrize("protocol", EXAMPLES_OF_SAM2, ids=lambda protocol: protocol.__name__)
def test_the_real_module_of_sam2_has_every_name(tiny_sam2_video, protocol):
    check_names(protocol, tiny_sam2_video.get_submodule(EXAMPLES_OF_SAM2[protocol]))


@pytest.mark.parametrize("protocol", EXAMPLES_OF_SAM3, ids=lambda protocol: protocol.__name__)
def test_the_real_module_of_sam3_has_every_name(tiny_sam3, protocol):
    check_names(protocol, tiny_sam3.get_submodule(EXAMPLES_OF_SAM3[protocol]))


def check_names(protocol, module):
    methods = {name for name in vars(protocol) if not name.startswith("_")}
    missing = [n for n in {*get_type_hints(protocol), *methods} if not hasattr(module, n)]
    assert missing == []
