"""The protocols name what transformers' modules really have."""

from typing import get_type_hints

import pytest

from carsam.families.sam import modules

EXAMPLES = {
    modules.SamVisionAttention: "vision_encoder.layers.0.attn",
    modules.SamVisionLayer: "vision_encoder.layers.0",
    modules.SamAttention: "mask_decoder.transformer.layers.0.self_attn",
    modules.SamTwoWayAttentionBlock: "mask_decoder.transformer.layers.0",
    modules.SamTwoWayTransformer: "mask_decoder.transformer",
    modules.SamFeedForward: "mask_decoder.iou_prediction_head",
    modules.SamMaskDecoder: "mask_decoder",
}


@pytest.mark.parametrize("protocol", EXAMPLES, ids=lambda protocol: protocol.__name__)
def test_the_real_module_has_every_name(tiny_sam, protocol):
    module = tiny_sam.get_submodule(EXAMPLES[protocol])
    methods = {name for name in vars(protocol) if not name.startswith("_")}
    missing = [n for n in {*get_type_hints(protocol), *methods} if not hasattr(module, n)]
    assert missing == []
