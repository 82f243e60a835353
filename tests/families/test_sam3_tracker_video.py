"""SAM 3's tracker with its memory: what transformers computes, step by step, and quantized."""

import numpy as np
import pytest
import torch

import carsam
from carsam.engines.load import load
from carsam.engines.torch_video_engine import TorchVideoEngine, torch_engine
from carsam.evaluation.strict import assert_strict
from carsam.families import FAMILIES

FAMILY = FAMILIES["sam3_tracker_video"]
FEW_STEPS = ("reconstruct", "reconstruct-unfinished", "polish")
BOX = torch.tensor([[[5.0, 6, 90, 100]]])


@pytest.fixture
def tiny_sam3_video(tiny_sam3_video):
    """The model, which finds an object everywhere, so that masks are what becomes memories."""
    with torch.no_grad():
        tiny_sam3_video.mask_decoder.pred_obj_score_head.proj_out.bias.add_(20)
    return tiny_sam3_video


@pytest.fixture
def pixels():
    return torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))


def few_steps(name):
    steps = [step.name for step in carsam.make_recipe(name, "w4a4").all_steps]
    return [f"{step}.steps=2" for step in steps if step in FEW_STEPS]


def quantized(model, images, name="rtn", **more):
    return carsam.quantize(model, images, name, count=1, prompts_per_image=2, **more)


def followed(engine, photo):
    """Logits of an object in three frames."""
    predictor = carsam.SAM2VideoPredictor(engine)
    state = predictor.init_state([np.roll(photo, 5 * step, axis=1) for step in range(3)])
    predictor.add_new_points_or_box(state, 0, 1, box=[10, 10, 80, 70])
    return np.concatenate([logits for _, _, logits in predictor.propagate_in_video(state)])


@pytest.mark.parametrize("name", ["rtn", "carsam-plus"])
@pytest.mark.filterwarnings("ignore:.*(reconstruction|Polish) raised")
def test_it_is_quantized_strictly_and_comes_back(
    name, tiny_sam3_video, image_folder, photo, tmp_path
):
    model = quantized(tiny_sam3_video, image_folder, name, settings=few_steps(name))
    assert_strict(model, [photo])
    model.save(tmp_path / "run")
    expected = followed(torch_engine(model.family, model.module, model.mode), photo)
    np.testing.assert_array_equal(followed(load(tmp_path / "run", "simulated"), photo), expected)
    native = load(tmp_path / "run")
    assert native.mode == "native"
    np.testing.assert_allclose(followed(native, photo), expected, atol=1e-5)
    assert 0.05 < (expected > 0).mean() < 0.95


def test_the_first_frame_is_transformers(tiny_sam3_video, pixels):
    """What stands for the missing memory is added here, as by transformers' class for videos."""
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
