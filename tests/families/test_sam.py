import copy

import pytest
import torch

from carsam.families import FAMILIES, load_model
from carsam.families.base import SiteType, sites_of_stages
from carsam.simulation.model import prepare

FAMILY = FAMILIES["sam"]


@pytest.fixture
def pixels():
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


BOXES = torch.tensor([[[5.0, 6, 40, 50], [20, 3, 60, 33], [0, 0, 63, 63]]])


def test_sites_cover_every_linear_and_convolution(tiny_sam):
    layers = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    expected = {name for name, module in tiny_sam.named_modules() if isinstance(module, layers)}
    sites = FAMILY.sites(tiny_sam)
    assert {site.path for site in sites if site.type is not SiteType.ATTENTION} == expected


def test_sites_cover_every_attention(tiny_sam):
    sites = [site for site in FAMILY.sites(tiny_sam) if site.type is SiteType.ATTENTION]
    kinds = [site.kind for site in sites]
    assert kinds.count("encoder.window_attention") == 2
    assert kinds.count("encoder.global_attention") == 1
    assert kinds.count("decoder.self_attention") == 2
    assert kinds.count("decoder.cross_attention") == 5


def test_every_site_belongs_to_one_stage(tiny_sam):
    sites = FAMILY.sites(tiny_sam)
    held = [s for _, members in sites_of_stages(FAMILY.stages(tiny_sam), sites) for s in members]
    assert sorted(s.path for s in held) == sorted(s.path for s in sites)


def test_a_prepared_model_computes_what_the_original_does(tiny_sam, pixels):
    rounded = copy.deepcopy(tiny_sam)
    for parameter in rounded.parameters():
        parameter.data = parameter.data.half().float()
    prepared = prepare(FAMILY, tiny_sam)
    with torch.inference_mode():
        expected = rounded(pixel_values=pixels, input_boxes=BOXES)
        found = prepared(pixel_values=pixels, input_boxes=BOXES)
    torch.testing.assert_close(found.pred_masks, expected.pred_masks, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.iou_scores, expected.iou_scores, atol=1e-5, rtol=1e-4)


def test_prepare_leaves_the_original_alone(tiny_sam):
    before = {name: tensor.clone() for name, tensor in tiny_sam.state_dict().items()}
    prepare(FAMILY, tiny_sam)
    assert tiny_sam.config.mask_decoder_config._attn_implementation != "carsam"
    for name, tensor in tiny_sam.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)


def test_the_stages_one_by_one_compute_what_the_model_does(tiny_sam, pixels):
    prepared = prepare(FAMILY, tiny_sam)
    with torch.inference_mode():
        expected = prepared(pixel_values=pixels, input_boxes=BOXES, multimask_output=False)
        state = FAMILY.start(pixels, BOXES)
        for stage in FAMILY.stages(prepared)[:-1]:
            state = stage.run(prepared, state)
    torch.testing.assert_close(state["masks"][:, :1], expected.pred_masks[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state["ious"][:, :1], expected.iou_scores[0], atol=1e-5, rtol=1e-4)


def test_stages_start_from_points_as_well_as_from_boxes(tiny_sam, pixels):
    points, labels = torch.tensor([[[[9.0, 12.0]], [[40.0, 30.0]]]]), torch.tensor([[[1], [0]]])
    prepared = prepare(FAMILY, tiny_sam)
    with torch.inference_mode():
        expected = prepared(
            pixel_values=pixels, input_points=points, input_labels=labels, multimask_output=False
        )
        state = FAMILY.start(pixels, points=points, labels=labels)
        for stage in FAMILY.stages(prepared)[:-1]:
            state = stage.run(prepared, state)
    torch.testing.assert_close(state["masks"][:, :1], expected.pred_masks[0], atol=1e-5, rtol=1e-4)


def test_image_tokens_are_kept_once_for_all_boxes(tiny_sam, pixels):
    prepared = prepare(FAMILY, tiny_sam)
    state = FAMILY.start(pixels, BOXES)
    with torch.inference_mode():
        for stage in FAMILY.stages(prepared):
            state = stage.run(prepared, state)
            if stage.path == "mask_decoder.tokens":
                break
    assert state["image"].shape == (1, 1, 64, 32)
    assert state["tokens"].shape == (1, 3, 7, 32)


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="Models of type Linear are not supported"):
        load_model(torch.nn.Linear(2, 2))


def test_nan_in_the_weights_is_named(tiny_sam):
    tiny_sam.vision_encoder.layers[1].mlp.lin1.weight.data[0, 0] = float("nan")
    with pytest.raises(
        ValueError, match=r"NaN or infinity in vision_encoder\.layers\.1\.mlp\.lin1"
    ):
        load_model(tiny_sam)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no file or folder"):
        load_model(str(tmp_path / "nothing"))
