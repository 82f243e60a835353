import copy

import numpy as np
import pytest
import torch
from against_transformers import (
    assert_masks_are_transformers,
    assert_near,
    assert_prepared_is_the_same,
    boxes_in,
)

from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.families import FAMILIES
from carsam.families.base import SiteType, sites_of_stages
from carsam.families.sam2.positions import image_positions
from carsam.images.prompts import Prompts
from carsam.simulation.model import prepare
from carsam.simulation.two_way_attention import TwoWayAttention

FAMILY = FAMILIES["sam2"]
BOXES = boxes_in(128)


@pytest.fixture
def pixels():
    return torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def stored_sam2(tiny_sam2):
    """The model as a checkpoint keeps it: all its numbers fp16."""
    for tensor in tiny_sam2.state_dict().values():
        tensor.copy_(tensor.half())
    return tiny_sam2


def test_sites_cover_every_linear_and_convolution(tiny_sam2):
    layers = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    expected = {name for name, module in tiny_sam2.named_modules() if isinstance(module, layers)}
    sites = FAMILY.sites(tiny_sam2)
    assert {site.path for site in sites if site.type is not SiteType.ATTENTION} == expected


def test_sites_cover_every_attention(tiny_sam2):
    kinds = [site.kind for site in FAMILY.sites(tiny_sam2) if site.type is SiteType.ATTENTION]
    assert kinds.count("encoder.window_attention") == 6
    assert kinds.count("encoder.global_attention") == 1
    assert kinds.count("decoder.self_attention") == 2
    assert kinds.count("decoder.cross_attention") == 5


def test_every_site_belongs_to_one_stage(tiny_sam2):
    sites = FAMILY.sites(tiny_sam2)
    held = [s for _, members in sites_of_stages(FAMILY.stages(tiny_sam2), sites) for s in members]
    assert [s.path for s in held] == [s.path for s in sites]


@pytest.mark.parametrize(("source", "size"), [(7, (256, 256)), (14, (32, 64)), (7, (8, 8))])
def test_positions_are_transformers(source, size):
    generator = torch.Generator().manual_seed(0)
    background = torch.randn(1, 5, source, source, generator=generator)
    window = torch.randn(1, 5, 8, 8, generator=generator)
    enlarged = torch.nn.functional.interpolate(background, size=size, mode="bicubic")
    expected = enlarged + window.tile(1, 1, size[0] // 8, size[1] // 8)
    found = image_positions(background, window, size)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


def test_the_embedding_is_transformers(tiny_sam2, pixels):
    with torch.inference_mode():
        *fine, expected = tiny_sam2.get_image_embeddings(pixels)
        image, *found = FAMILY.encode(tiny_sam2, pixels)
        image = image + tiny_sam2.no_memory_embedding.view(1, -1, 1, 1)
    for one, other in zip((image, *reversed(found)), (expected, *fine), strict=True):
        assert_near(one, other)


@pytest.mark.parametrize("multimask_output", [True, False])
def test_masks_of_any_prompt_are_transformers(tiny_sam2, pixels, multimask_output):
    assert_masks_are_transformers(FAMILY, tiny_sam2, pixels, multimask_output)


def test_a_prepared_model_computes_what_the_original_does(stored_sam2, pixels):
    assert_prepared_is_the_same(FAMILY, stored_sam2, pixels)


def test_prepare_leaves_the_original_alone(tiny_sam2):
    before = copy.deepcopy(tiny_sam2.state_dict())
    prepare(FAMILY, tiny_sam2)
    assert tiny_sam2.config.vision_config.backbone_config._attn_implementation != "carsam"
    for name, tensor in tiny_sam2.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["boxes", "points"])
def test_the_stages_one_by_one_compute_what_the_model_does(stored_sam2, pixels, kind):
    prompts = {"boxes": BOXES}
    if kind == "points":
        points = torch.tensor([[[[9.0, 12.0]], [[40.0, 30.0]]]])
        prompts = {"points": points, "labels": torch.tensor([[[1], [0]]])}
    stored_sam2.mask_decoder.dynamic_multimask_via_stability = False
    prepared = prepare(FAMILY, stored_sam2)
    given = {f"input_{name}": value for name, value in prompts.items()}
    with torch.inference_mode():
        single, others = (
            stored_sam2(pixel_values=pixels, multimask_output=many, **given)
            for many in (False, True)
        )
        state = FAMILY.start(pixels, **prompts)
        for stage in FAMILY.stages(prepared)[:-1]:
            state = stage.run(prepared, state)
    expected = torch.cat([single.pred_masks, others.pred_masks], dim=2)[0]
    assert_near(state["masks"], expected)
    assert_near(state["ious"], torch.cat([single.iou_scores, others.iou_scores], dim=2)[0])
    assert_near(state["scores"], single.object_score_logits[0])


def test_image_tokens_are_kept_once_for_all_boxes(stored_sam2, pixels):
    prepared = prepare(FAMILY, stored_sam2)
    state = FAMILY.start(pixels, BOXES)
    with torch.inference_mode():
        for stage in FAMILY.stages(prepared):
            state = stage.run(prepared, state)
            if stage.path == "mask_decoder.tokens":
                break
    assert state["image"].shape == (1, 1, 64, 32)
    assert state["tokens"].shape == (1, 3, 9, 32)
    assert state["s0"].shape == (1, 4, 32, 32) and state["s1"].shape == (1, 8, 16, 16)


def test_the_original_attention_mixes_up_tokens_that_prompts_share(tiny_sam2):
    """Why `TwoWayAttention` is there: with one image for 4 prompts, other numbers and no error."""
    original = tiny_sam2.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 4, 7, 32, generator=generator)
    image = torch.randn(1, 1, 64, 32, generator=generator)
    apart = image.expand(1, 4, -1, -1)
    with torch.inference_mode():
        expected, _ = original(query=tokens, key=apart, value=apart)
        wrong, _ = original(query=tokens, key=image, value=image)
        found, _ = TwoWayAttention(original)(query=tokens, key=image, value=image)
    assert_near(found, expected)
    assert wrong.shape == expected.shape and float((wrong - expected).abs().max()) > 0.1


def test_image_tokens_attend_to_the_tokens_of_every_prompt(tiny_sam2):
    original = tiny_sam2.mask_decoder.transformer.layers[0].cross_attn_image_to_token
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 4, 7, 32, generator=generator)
    image = torch.randn(1, 1, 64, 32, generator=generator)
    with torch.inference_mode():
        expected, _ = original(query=image.expand(1, 4, -1, -1), key=tokens, value=tokens)
        found, _ = TwoWayAttention(original)(query=image, key=tokens, value=tokens)
        again, _ = TwoWayAttention(original)(
            query=image.expand(4, 1, -1, -1), key=tokens, value=tokens
        )
    assert_near(found, expected.transpose(0, 1))
    assert_near(again, expected.transpose(0, 1))


def test_masks_are_fed_back_as_transformers_does(tiny_sam2, pixels):
    engine = TorchEngine(FAMILY, tiny_sam2, "float")
    earlier = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    prompts = Prompts(boxes=BOXES[0, :2].numpy(), masks=earlier)
    masks, _ = engine.decode(engine.encode(pixels[0].numpy()), prompts, multimask_output=True)
    for index in range(2):
        expected = tiny_sam2(
            pixel_values=pixels,
            input_boxes=BOXES[:, index : index + 1],
            input_masks=torch.from_numpy(earlier[index])[None, None],
        )
        assert_near(torch.from_numpy(masks[index]), expected.pred_masks[0, 0])


def test_other_levels_are_refused(tiny_sam2):
    tiny_sam2.config.vision_config.fpn_top_down_levels = [1, 2, 3]
    with pytest.raises(UserError, match=r"3 levels, \[1, 2, 3\] of them.*expected 4 stages"):
        FAMILY.stages(tiny_sam2)
