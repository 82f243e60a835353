"""SAM 3's tracker with its memory: what transformers computes, step by step."""

import pytest
import torch

from carsam.engines.torch_video_engine import TorchVideoEngine
from carsam.families import FAMILIES

FAMILY = FAMILIES["sam3_tracker_video"]
BOX = torch.tensor([[[5.0, 6, 90, 100]]])


@pytest.fixture
def pixels():
    return torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))


def test_the_first_frame_is_transformers(tiny_sam3_video, pixels):
    """What stands for the missing memory is added here, as by transformers' class for videos."""
    tiny_sam3_video.mask_decoder.pred_obj_score_head.proj_out.bias.data.add_(20)  # it is there
    with torch.inference_mode():
        features = tiny_sam3_video.get_image_features(pixels, return_dict=True)
        level = features.fpn_hidden_states[-1].permute(1, 2, 0).view(1, -1, 8, 8)
        embedding = FAMILY.encode(tiny_sam3_video, pixels)
        torch.testing.assert_close(embedding[0], level, atol=3e-5, rtol=1e-4)
        placed = FAMILY.recall(tiny_sam3_video, embedding, None)
        expected = tiny_sam3_video._single_frame_forward(
            input_boxes=BOX,
            image_embeddings=[*reversed(placed[1:]), placed[0]],
            multimask_output=True,
        )
        masks, ious = FAMILY.decode(tiny_sam3_video, embedding, True, input_boxes=BOX)
    best = int(ious[0, 0].argmax())
    torch.testing.assert_close(masks[0, 0, best], expected.pred_masks[0, 0], atol=3e-5, rtol=1e-4)


def test_a_mask_is_remembered_at_the_side_that_its_encoder_reads(tiny_sam3_video, pixels):
    numbers = TorchVideoEngine(FAMILY, tiny_sam3_video, "float").memory
    assert (numbers.mask_side, numbers.conditioning) == (128, 4)
    logits = torch.randn(1, 1, 112, 112, generator=torch.Generator().manual_seed(4))
    side = (numbers.mask_side, numbers.mask_side)
    read = torch.nn.functional.interpolate(logits, side, mode="bilinear", antialias=True)
    with torch.inference_mode():
        embedding = FAMILY.encode(tiny_sam3_video, pixels)
        expected, _ = tiny_sam3_video._encode_new_memory(
            embedding[0].flatten(2).permute(2, 0, 1), logits, torch.ones(1, 1, 1), False
        )
        tokens, _ = FAMILY.remember(
            tiny_sam3_video, embedding, read.sigmoid() * 20 - 10, torch.ones(1, 1)
        )
    torch.testing.assert_close(
        tokens, expected.float().transpose(0, 1), atol=0.02, rtol=0.01
    )  # transformers keeps bfloat16
