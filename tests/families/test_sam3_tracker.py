"""SAM 3's tracker for images: what transformers computes, cut into stages, and what is refused."""

import json

import pytest
import torch
from against_transformers import (
    assert_masks_are_transformers,
    assert_near,
    assert_prepared_is_the_same,
)

import carsam
from carsam.errors import UnsupportedError, UserError
from carsam.families import FAMILIES
from carsam.families.base import SiteType, sites_of_stages
from carsam.images.preprocess import preprocess

FAMILY = FAMILIES["sam3_tracker"]
ATOL = 3e-5
"""Its sums differ by a little more than SAM 2's."""
COARSEST = "vision_encoder.neck.fpn_layers.3."
"""A level that the tracker drops."""


@pytest.fixture
def pixels():
    return torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def stored_sam3(tiny_sam3):
    """The model as a checkpoint keeps it: all its numbers fp16."""
    for tensor in tiny_sam3.state_dict().values():
        tensor.copy_(tensor.half())
    return tiny_sam3


def test_sites_cover_every_layer_that_runs(tiny_sam3):
    layers = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    expected = {
        name
        for name, module in tiny_sam3.named_modules()
        if isinstance(module, layers) and not name.startswith(COARSEST)
    }
    sites = FAMILY.sites(tiny_sam3)
    assert {site.path for site in sites if site.type is not SiteType.ATTENTION} == expected
    kinds = [site.kind for site in sites if site.type is SiteType.ATTENTION]
    assert kinds.count("encoder.window_attention") == 2
    assert kinds.count("encoder.global_attention") == 1
    assert kinds.count("decoder.cross_attention") == 5


def test_every_site_belongs_to_one_stage(tiny_sam3):
    sites = FAMILY.sites(tiny_sam3)
    held = [s for _, members in sites_of_stages(FAMILY.stages(tiny_sam3), sites) for s in members]
    assert [s.path for s in held] == [s.path for s in sites]


def test_the_embedding_is_transformers(tiny_sam3, pixels):
    with torch.inference_mode():
        *fine, expected = tiny_sam3.get_image_embeddings(pixels)
        image, *found = FAMILY.encode(tiny_sam3, pixels)
    for one, other in zip((image, *reversed(found)), (expected, *fine), strict=True):
        assert_near(one, other, ATOL)


@pytest.mark.parametrize("multimask_output", [True, False])
def test_masks_of_any_prompt_are_transformers(tiny_sam3, pixels, multimask_output):
    tiny_sam3.no_memory_embedding.data.zero_()  # transformers' class for images drops it
    assert_masks_are_transformers(FAMILY, tiny_sam3, pixels, multimask_output, ATOL)


def test_a_prepared_model_computes_what_the_original_does(stored_sam3, pixels):
    assert_prepared_is_the_same(FAMILY, stored_sam3, pixels, ATOL)


def test_pixels_lie_between_minus_one_and_one(tiny_sam3, photo):
    framing = FAMILY.framing(tiny_sam3.config)
    pixels, _ = preprocess(photo, framing)
    assert float(pixels.min()) >= -1 and float(pixels.max()) <= 1


def test_other_levels_are_refused(tiny_sam3, image_folder, tmp_path):
    model = carsam.quantize(tiny_sam3, image_folder, "rtn", count=1, prompts_per_image=2)
    model.save(tmp_path / "run")
    path = tmp_path / "run" / "carsam.json"
    manifest = json.loads(path.read_text())
    manifest["model_config"]["vision_config"]["scale_factors"] = [2.0, 1.0, 0.5]
    path.write_text(json.dumps(manifest))
    with pytest.raises(UnsupportedError, match=r"levels of \[4\.0, 2\.0, 1\.0\].*found \[2\.0"):
        carsam.load(tmp_path / "run", "native")
    tiny_sam3.config.vision_config.scale_factors = [2.0, 1.0, 0.5]
    with pytest.raises(UserError, match=r"Found a SAM 3 with levels of \[2\.0, 1\.0, 0\.5\]"):
        model.family.stages(tiny_sam3)
