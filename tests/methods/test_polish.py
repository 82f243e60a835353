from dataclasses import replace

import numpy as np
import pytest
import torch

from carsam.calibration.loop import quantize_units_
from carsam.families import FAMILIES
from carsam.families.base import split_after_encoder
from carsam.images.clicks import are_clicks
from carsam.methods.recipe import Step
from carsam.methods.registry import make_recipe
from carsam.methods.steps.training.feature_loss import feature_loss, run_noting
from carsam.methods.steps.training.mask_loss import mask_loss, run_stages, stages_to_masks
from carsam.methods.steps.training.polish import Polish
from carsam.methods.steps.training.teacher import Teacher
from carsam.progress import Silent
from carsam.simulation import slots
from carsam.simulation.layers import weight_to_rows
from carsam.simulation.model import prepare

FAMILY = FAMILIES["sam"]
BOXES = torch.tensor([[[4.0, 5, 50, 40], [10, 20, 30, 60]]])
BITS = "w2a8"
"""So coarse that there is much to regain, and the loss is smooth: at w4a4 the outcome of a few
steps on random weights depends on the last bits of the processor's sums."""


@torch.no_grad()
def quantized(tiny_sam, views=0, **parameters):
    """Model, notes and states, the last `views` of them views; polished if there are parameters."""
    model = prepare(FAMILY, tiny_sam)
    generator = torch.Generator().manual_seed(0)
    states = tuple(
        FAMILY.start(torch.randn(1, 3, 64, 64, generator=generator), BOXES) for _ in range(3)
    )
    closing = (Step("polish", parameters),) if parameters else ()
    recipe = replace(make_recipe("rtn", BITS), closing=closing)
    images = len(states) - views
    notes = quantize_units_(
        FAMILY,
        model,
        recipe,
        states[:images],
        0,
        views=states[images:],
        memory=None,
        log=None,
        projects=False,
        progress=Silent(),
    )
    return model, notes, states


def loss(model, tiny_sam, states):
    float_model = prepare(FAMILY, tiny_sam)
    stages = stages_to_masks(FAMILY.stages(model))
    with torch.no_grad():
        return sum(
            float(mask_loss(run_stages(model, stages, s), run_stages(float_model, stages, s)))
            for s in states
        )


@pytest.mark.parametrize("encoder", [False, True])
def test_polish_brings_the_masks_nearer(tiny_sam, encoder):
    before, _, states = quantized(tiny_sam)
    after, notes, _ = quantized(tiny_sam, steps=40, rate=1e-3, encoder=encoder)
    assert loss(after, tiny_sam, states) < 0.5 * loss(before, tiny_sam, states)
    assert notes[-1]["kept"]
    assert notes[-1]["loss_after"] == pytest.approx(loss(after, tiny_sam, states) / 3, rel=1e-4)


def test_polish_trains_on_other_views_as_well(tiny_sam):
    before, _, states = quantized(tiny_sam, views=2)
    after, notes, _ = quantized(tiny_sam, views=2, steps=40, rate=2e-3)
    for name, model in (("loss_before", before), ("loss_after", after)):
        assert notes[-1][name] == pytest.approx(loss(model, tiny_sam, states) / 3, rel=1e-4)
    assert notes[-1]["kept"]


@pytest.mark.parametrize("rounding_rate", [0.0, 0.05])
def test_everything_is_on_its_grid_and_codes_move_only_if_asked_for(tiny_sam, rounding_rate):
    before, _, _ = quantized(tiny_sam)
    after, _, _ = quantized(tiny_sam, steps=40, new=0.0, rounding_rate=rounding_rate)
    moved = moved_codes = 0
    for site in FAMILY.sites(after):
        layer, old = slots.weight_layer(after, site), slots.weight_layer(before, site)
        if layer is None or layer.weight_grid is None:
            continue
        rows = weight_to_rows(layer.layer, layer.layer.weight)
        old_rows = weight_to_rows(old.layer, old.layer.weight)
        assert torch.equal(layer.weight_grid(rows), rows)
        codes, old_codes = layer.weight_grid.codes(rows), old.weight_grid.codes(old_rows)
        moved_codes += int((codes != old_codes).sum())
        moved += not torch.equal(layer.weight_grid.scale, old.weight_grid.scale)
        bias = layer.layer.bias
        assert bias is None or torch.equal(bias, bias.half().float())
        assert not layer.layer.weight.requires_grad
    assert moved > 10
    assert (moved_codes > 0) == (rounding_rate > 0)


@pytest.mark.parametrize(("prompts", "new", "rate"), [(1, 0.0, 3e-3), (8, 1.0, 3e-3)])
def test_a_step_may_take_some_of_the_prompts_or_others(tiny_sam, prompts, new, rate):
    _, notes, _ = quantized(tiny_sam, steps=40, rate=rate, prompts=prompts, new=new)
    assert notes[-1]["kept"]
    assert notes[-1]["loss_after"] < notes[-1]["loss_before"]


@pytest.mark.parametrize("clicked", [0, 2])
def test_of_a_steps_prompts_some_are_the_images_own_and_some_are_new(clicked):
    random, own = np.random.default_rng(0), torch.cat([BOXES, BOXES + 2], 1)
    own[:, :clicked, 2:] = own[:, :clicked, :2]
    share = clicked / own.shape[1]
    first, second = (Polish(prompts=8, new=0.5)._prompts(own, random) for _ in range(2))
    for rows in (first, second):
        known = (rows[0, :, None] == own[0]).all(-1).any(-1)
        assert known.tolist() == [True] * (rows.shape[1] - 4) + [False] * 4
        assert are_clicks(rows[0, -4:]).sum() == round(4 * share)
        assert (rows[..., :2] >= own[0, :, :2].amin(0)).all()
        assert (rows[..., 2:] <= own[0, :, 2:].amax(0)).all()
    assert not torch.equal(first[:, -4:], second[:, -4:])


def test_the_teacher_stays_float_and_answers_any_box(tiny_sam):
    model, expected = prepare(FAMILY, tiny_sam), prepare(FAMILY, tiny_sam)
    stages = FAMILY.stages(model)
    states = [FAMILY.start(torch.ones(1, 3, 64, 64), BOXES)]
    with torch.no_grad():
        encoder, _ = split_after_encoder(stages)
        teacher = Teacher(model, stages, [run_stages(model, encoder, state) for state in states])
        for parameter in model.parameters():
            parameter.mul_(2.0)
        other = torch.tensor([[[20.0, 8, 44, 50]]])
        answer, features = teacher.answer(0, other)
        state = {**states[0], "prompts": other}
        output, made = run_noting(expected, stages_to_masks(stages), state)
    for name in ("masks", "ious"):  # the answer comes from torch's own norms
        torch.testing.assert_close(answer[name], output[name], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features, made, rtol=1e-4, atol=1e-4)


def test_features_are_what_the_decoders_parts_make_of_prompts(tiny_sam):
    model = prepare(FAMILY, tiny_sam)
    stages = stages_to_masks(FAMILY.stages(model))
    with torch.no_grad():
        state = FAMILY.start(torch.ones(1, 3, 64, 64), BOXES)
        outputs, features = run_noting(model, stages, state)
        assert torch.equal(outputs["masks"], run_stages(model, stages, state)["masks"])
    # tokens and their positions, four parts of two blocks, the last attention
    assert len(features) == 2 + 4 * 2 + 1
    assert {feature.shape[-1] for feature in features} == {features[0].shape[-1]}


def test_the_loss_of_features_is_a_share_of_their_variance_and_ignores_constants():
    target = torch.randn(1, 2, 50, 8, generator=torch.Generator().manual_seed(0))
    scale, constant = torch.linspace(0.1, 10, 8), torch.arange(8.0)
    targets = [target * scale, target]
    assert float(feature_loss([target * scale + constant, target], targets)) == pytest.approx(0)
    twice = [2 * target * scale, 1.5 * target]
    assert float(feature_loss(twice, targets)) == pytest.approx((1 + 0.25) / 2)


def test_features_count_beside_the_masks(tiny_sam):
    def error(weight):
        model, _, states = quantized(tiny_sam, steps=40, rate=1e-3, features=weight)
        whole = prepare(FAMILY, tiny_sam)
        stages = stages_to_masks(FAMILY.stages(model))
        with torch.no_grad():
            made = [[run_noting(m, stages, s)[1] for m in (model, whole)] for s in states]
            return sum(float(feature_loss(*pair)) for pair in made)

    assert error(50.0) < 0.9 * error(0.0)


def test_a_polish_that_does_harm_is_undone(tiny_sam):
    before, _, _ = quantized(tiny_sam)
    with pytest.warns(UserWarning, match="undone"):
        after, notes, _ = quantized(tiny_sam, steps=3, rate=10.0)
    assert not notes[-1]["kept"]
    old, new = before.state_dict(), after.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_the_encoder_is_left_alone_unless_asked_for(tiny_sam):
    before, _, _ = quantized(tiny_sam)
    after, notes, _ = quantized(tiny_sam, steps=40, rate=2e-3)
    assert notes[-1]["kept"]
    path = "vision_encoder.layers.1.attn.qkv"
    old, new = (model.get_submodule(path) for model in (before, after))
    assert torch.equal(old.weight_grid.scale, new.weight_grid.scale)
    assert torch.equal(old.input_quantizer.scale, new.input_quantizer.scale)


def test_the_masks_loss_is_zero_for_equal_masks_and_counts_objects_alike():
    masks = torch.full((2, 1, 32, 32), -8.0)
    masks[0, 0, :8, :8] = masks[1, 0, :16, :16] = 8.0
    target = {"masks": masks, "ious": torch.zeros(2, 1)}
    assert float(mask_loss(target, target)) == pytest.approx(0.0, abs=1e-4)
    losses = []
    for box, side in ((0, 8), (1, 16)):
        wrong = masks.clone()
        wrong[box, 0, :side, : side // 2] = -8.0  # half of the object
        losses.append(float(mask_loss({**target, "masks": wrong}, target)))
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
