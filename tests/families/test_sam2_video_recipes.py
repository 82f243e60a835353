"""Recipes on a tiny SAM 2 and a tiny SAM 3 for videos: as they say, with memory, and from disk.

Every recipe on SAM 2; two on SAM 3, whose memory is the same.
"""

import numpy as np
import pytest
import torch
from tiny_runs import few_steps

import carsam
from carsam.engines.load import load
from carsam.engines.torch_video_engine import torch_engine
from carsam.evaluation.strict import StrictError, assert_strict
from carsam.images.preprocess import preprocess
from carsam.methods.registry import RECIPES
from carsam.simulation import slots


def finding_everywhere(model):
    """The model, which finds an object everywhere, so that masks are what becomes memories."""
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(20)
    return model


@pytest.fixture
def tiny_sam2_video(tiny_sam2_video):
    return finding_everywhere(tiny_sam2_video)


@pytest.fixture
def tiny_sam3_video(tiny_sam3_video):
    return finding_everywhere(tiny_sam3_video)


@pytest.fixture
def tiny(request):
    return request.getfixturevalue(request.param)


def quantized(model, images, name="rtn", **more):
    return carsam.quantize(model, images, name, count=1, prompts_per_image=2, **more)


def followed(engine, photo):
    """Logits of an object in three frames."""
    predictor = carsam.SAM2VideoPredictor(engine)
    state = predictor.init_state([np.roll(photo, 5 * step, axis=1) for step in range(3)])
    predictor.add_new_points_or_box(state, 0, 1, box=[10, 10, 80, 70])
    return np.concatenate([logits for _, _, logits in predictor.propagate_in_video(state)])


@pytest.mark.parametrize(
    ("tiny", "name"),
    [
        *[("tiny_sam2_video", name) for name in RECIPES],
        *[("tiny_sam3_video", name) for name in ("rtn", "carsam-plus")],
    ],
    indirect=["tiny"],
)
@pytest.mark.filterwarnings("ignore:.*(reconstruction|Polish) raised")
def test_it_is_quantized_strictly_and_comes_back(tiny, name, image_folder, photo, tmp_path):
    model = quantized(tiny, image_folder, name, settings=few_steps(name))
    assert_strict(model, [photo])
    model.save(tmp_path / "run")
    before = torch_engine(model.family, model.module, model.mode)
    expected = followed(before, photo)
    np.testing.assert_array_equal(followed(load(tmp_path / "run", "simulated"), photo), expected)
    native = load(tmp_path / "run")
    assert native.mode == "native"
    pixels, _ = preprocess(photo, native.framing)
    for found, level in zip(native.encode(pixels), before.encode(pixels), strict=True):
        np.testing.assert_array_equal(found, level)
    np.testing.assert_allclose(followed(native, photo), expected, atol=1e-5)
    assert 0.05 < (expected > 0).mean() < 0.95


def test_every_kind_can_be_quantized(tiny_sam2_video, image_folder, photo):
    model = quantized(tiny_sam2_video, image_folder, rules=["*=w4a4"])
    assert_strict(model, [photo])


def test_the_memory_can_stay_float(tiny_sam2_video, image_folder, photo):
    model = quantized(tiny_sam2_video, image_folder, rules=["memory*=float"])
    assert_strict(model, [photo])
    memory = [site for site in model.sites if site.kind.startswith("memory")]
    assert len(memory) > 30
    assert not any(any(slots.fillings(model.module, site).values()) for site in memory)


def test_the_strict_check_looks_into_the_memory(tiny_sam2_video, image_folder, photo):
    model = quantized(tiny_sam2_video, image_folder)
    layer = model.module.get_submodule("memory_attention.layers.1.cross_attn_image.k_proj")
    layer.layer.weight[3, 5] += 0.01
    with pytest.raises(StrictError, match=r"cross_attn_image\.k_proj: 1 weight channels are off"):
        assert_strict(model, [photo])


def test_products_multiply_rotated_queries(tiny_sam2_video, image_folder, photo):
    """A rotation leaves the lengths of pairs of channels."""
    model = quantized(tiny_sam2_video, image_folder)
    path = "memory_attention.layers.0.self_attn"
    attention = model.module.get_submodule(path)
    entered = {}
    attention.product.register_forward_pre_hook(lambda _, given: entered.update(query=given[0]))
    attention.q_proj.register_forward_hook(lambda _, given, made: entered.update(made=made))
    followed(torch_engine(model.family, model.module, model.mode), photo)
    made, query = entered["made"].unflatten(-1, (1, -1)).transpose(1, 2), entered["query"]
    pairs, turned = (each.unflatten(-1, (-1, 2)).norm(dim=-1) for each in (made, query))
    np.testing.assert_allclose(turned.numpy(), pairs.numpy(), rtol=1e-4, atol=1e-5)
    assert float((made - query).abs().max()) > 0.1
