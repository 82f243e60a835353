"""The model in training computes what transformers computes, on any part of its canvas."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from carsam.families.mini import sam_mini_config  # noqa: E402 - after the checks for what it needs


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = transformers.SamModel(sam_mini_config()).eval()
    with torch.no_grad():
        for layer in model.vision_encoder.layers:
            layer.attn.rel_pos_h.normal_(0, 0.1)
            layer.attn.rel_pos_w.normal_(0, 0.1)
        model.vision_encoder.pos_embed.normal_(0, 0.1)
    return model


def test_all_four_masks_are_those_of_transformers(model):
    from pictures import PIXEL_MEAN, PIXEL_STD
    from sam_mini import canvas

    side = model.config.vision_config.image_size
    image = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (PIXEL_MEAN, PIXEL_STD))
    boxes = torch.rand(1, 3, 4) * side
    sam = canvas.CanvasSam(model, torch.float32)
    with torch.no_grad():
        sparse, dense = model.prompt_encoder(None, None, boxes, None)
        masks, iou = sam.decode(sam.encode(image, (0, 0)), (0, 0), sparse, dense)
        for multiple, part in ((True, slice(1, None)), (False, slice(0, 1))):
            expected = model((image - mean) / std, input_boxes=boxes, multimask_output=multiple)
            torch.testing.assert_close(masks[:, :, part], expected.pred_masks, atol=1e-6, rtol=1e-4)
            torch.testing.assert_close(iou[:, :, part], expected.iou_scores, atol=1e-6, rtol=1e-4)


def test_the_place_of_a_window_matters(model):
    from sam_mini import canvas

    image = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    sam = canvas.CanvasSam(model, torch.float32)
    with torch.no_grad():
        here, there = sam.encode(image, (0, 0)), sam.encode(image, (24, 8))
    assert here.shape == there.shape == (1, 128, 8, 8)
    assert (here - there).abs().max() > 1e-3
