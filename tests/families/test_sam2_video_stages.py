"""SAM 2's memory in stages: they cover it, and compute what the family's three steps do."""

import pytest
import torch
from tiny_clips import OBJECTS, clip_state

from carsam.families import FAMILIES
from carsam.families.base import Sample, SiteType, sites_of_stages
from carsam.families.sam2_video.decoding import run_mask_head
from carsam.families.video import Recollection
from carsam.formats.bits import FLOAT_KINDS
from carsam.methods.steps.training.mask_loss import run_stages
from carsam.simulation.model import prepare

FAMILY = FAMILIES["sam2_video"]
OF_THE_SESSION = {"mask_downsample", "temporal_positional_encoding_projection_layer"}
"""Layers that are a session's arithmetic, in numpy: no engine runs them."""


def assert_near(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def prepare_exactly(model):
    """The model with replaced parts, after its numbers have become those that fp16 has."""
    for tensor in model.state_dict().values():
        tensor.copy_(tensor.half())
    return prepare(FAMILY, model)


def test_sites_cover_every_layer_and_attention(tiny_sam2_video):
    layers = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    expected = {name for name, m in tiny_sam2_video.named_modules() if isinstance(m, layers)}
    sites = FAMILY.sites(tiny_sam2_video)
    found = [site.path for site in sites if site.type is not SiteType.ATTENTION]
    assert set(found) == expected - OF_THE_SESSION and len(found) == len(set(found))
    kinds = [site.kind for site in sites if site.type is SiteType.ATTENTION]
    assert kinds.count("memory.self_attention") == kinds.count("memory.cross_attention") == 2


def test_every_site_belongs_to_one_stage(tiny_sam2_video):
    sites = FAMILY.sites(tiny_sam2_video)
    stages = FAMILY.stages(tiny_sam2_video)
    held = [site for _, members in sites_of_stages(stages, sites) for site in members]
    assert [site.path for site in held] == [site.path for site in sites]


def test_of_the_memory_only_the_convolution_that_reads_masks_stays_float(tiny_sam2_video):
    memory = [s for s in FAMILY.sites(tiny_sam2_video) if s.kind.startswith("memory")]
    floats = [site.path for site in memory if site.kind in FLOAT_KINDS]
    assert floats == ["memory_encoder.mask_downsampler.layers.0.conv"]


@torch.no_grad()
def test_a_clip_is_recalled_and_decoded_as_by_the_familys_steps(tiny_sam2_video):
    clip = clip_state(FAMILY)
    found = run_stages(tiny_sam2_video, FAMILY.stages(tiny_sam2_video)[:-1], clip)
    frames = [FAMILY.encode(tiny_sam2_video, pixels[None]) for pixels in clip["hidden"]]
    side = tiny_sam2_video.config.prompt_encoder_config.image_size
    logits = torch.nn.functional.interpolate(clip["memory_masks"], (side, side), mode="bilinear")
    masks = [(logits[:, 0] > 0).float(), logits[:, 1].sigmoid()]  # prompted, followed
    tokens = [
        FAMILY.remember(
            tiny_sam2_video, frame, 20 * mask[:, None] - 10, clip["memory_scores"][:, place, None]
        )[0]
        for place, (frame, mask) in enumerate(zip(frames[1:], masks, strict=True))
    ]
    kept = [part.bfloat16().float() for part in tokens]
    values = torch.cat([*kept, clip["pointers"]], dim=1)
    for number in range(OBJECTS):
        memory = Recollection(
            values[number, None], clip["memory_positions"][None], clip["memory_cells"]
        )
        embedding = FAMILY.recall(tiny_sam2_video, frames[0], memory)
        prompts = {f"input_{name}": clip[name][:, :1] for name in ("points", "labels")}
        tracked = FAMILY.track(tiny_sam2_video, embedding, True, **prompts)
        assert_near(found["masks"][number, 1:], tracked.masks[0, 0])
        assert_near(found["ious"][number, 1:], tracked.ious[0, 0])
        assert_near(found["scores"][number], tracked.scores[0, 0])
        assert_near(found["pointers"][number, 1:], tracked.pointers[0, 0])


@torch.no_grad()
def test_a_still_passes_the_memory_by(tiny_sam2_video):
    boxes = torch.tensor([[[5.0, 6, 90, 100], [20, 3, 60, 100]]])
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    model = prepare_exactly(tiny_sam2_video)  # whose decoder takes one image for all boxes
    embedding = FAMILY.encode(tiny_sam2_video, pixels)
    masks, ious = FAMILY.decode(tiny_sam2_video, embedding, True, input_boxes=boxes)
    stages = FAMILY.stages(model)
    found = run_stages(model, stages[:-1], FAMILY.start(pixels, boxes))
    assert_near(found["masks"][:, 1:], masks[0])
    assert_near(found["ious"][:, 1:], ious[0])
    state = {"hidden": pixels}
    memory = [stage for stage in stages if stage.samples == (Sample.CLIP,)]
    assert len(memory) == 12
    for stage in memory:
        assert stage.run(model, state) is state


@torch.no_grad()
def test_objects_are_decoded_together_as_alone(tiny_sam2_video):
    """Before its attentions are replaced, transformers' model mixes up keys that objects share."""
    boxes = torch.tensor([[[5.0, 6, 90, 100], [20, 3, 60, 100], [0, 0, 127, 127]]])
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    embedding = FAMILY.encode(tiny_sam2_video, pixels)
    together = FAMILY.track(tiny_sam2_video, embedding, True, input_boxes=boxes)
    for number in range(3):
        one = boxes[:, number : number + 1]
        alone = FAMILY.track(tiny_sam2_video, embedding, True, input_boxes=one)
        for found, expected in zip(together, alone, strict=True):
            assert_near(found[:, number : number + 1], expected)


@torch.no_grad()
def test_float_parts_of_the_memory_do_not_depend_on_the_order_of_sums(tiny_sam2_video):
    """Permuted channels give equal bits, where float32's sums differ."""
    model = prepare(FAMILY, tiny_sam2_video)
    generator = torch.Generator().manual_seed(3)
    state = {
        "tokens": torch.randn(1, 2, 9, 64, generator=generator),
        "image": torch.randn(2, 1, 64, 64, generator=generator),
        "s0": torch.randn(1, 8, 32, 32, generator=generator),
        "s1": torch.randn(1, 16, 16, 16, generator=generator),
    }
    masks = run_mask_head(model, state)["masks"]
    order = torch.randperm(8, generator=generator)
    decoder = model.mask_decoder
    up = decoder.upscale_conv2.layer
    up.weight.copy_(up.weight[:, order])
    up.bias.copy_(up.bias[order])
    for head in decoder.output_hypernetworks_mlps:
        head.proj_out.layer.weight.copy_(head.proj_out.layer.weight[order])
        head.proj_out.layer.bias.copy_(head.proj_out.layer.bias[order])
    permuted = run_mask_head(model, {**state, "s0": state["s0"][:, order]})["masks"]
    assert torch.equal(permuted, masks)


@pytest.mark.parametrize("place", ["vision_encoder.neck", "memory_encoder"])
def test_positions_are_transformers_sines_rounded_once(tiny_sam2_video, place):
    path = f"{place}.position_encoding"
    shape = torch.Size((2, 64, 5, 7))
    arguments = (shape, torch.device("cpu"), torch.float32)
    expected = tiny_sam2_video.get_submodule(path)(*arguments)
    model = prepare(FAMILY, tiny_sam2_video)
    torch.testing.assert_close(model.get_submodule(path)(*arguments), expected, atol=1e-6, rtol=0)
