"""JCAR's joint unit and its parts: which is trained when, and what the unit starts from."""

import copy
from dataclasses import replace

import pytest
import torch

from carsam.methods.steps.jcar.joint_loss import JointLoss
from carsam.methods.steps.jcar.parts import DECIDED, part_of_weights, parts, train_parts_
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.training.reconstruct import Reconstruct, final_loss
from carsam.simulation import slots

BLOCK = "mask_decoder.transformer.layers.0"
STAGES = [
    f"{BLOCK}.cross_attn_token_to_image",
    f"{BLOCK}.mlp",
    f"{BLOCK}.cross_attn_image_to_token",
]
FEW = Reconstruct(steps=30, rounding_rate=0.05, keep=1.0, keep_inputs=1.0)


@pytest.fixture
@torch.no_grad()
def unit(make_unit):
    """The joint unit with grids and float weights."""
    joint = make_unit(*STAGES, bits="w3a8", merges=("cross+cross",))
    RoundToNearest(rounds_weights=False).run_(joint)
    return joint


def copied(unit):
    return replace(unit, model=copy.deepcopy(unit.model), notes=[])


def weights(unit):
    layers = (slots.weight_layer(unit.model, site) for site, _ in unit.sites)
    return [layer for layer in layers if layer is not None]


def test_every_weight_belongs_to_a_stage(unit):
    assert [plan.name for plan in parts(unit)] == STAGES
    assert part_of_weights(unit) == [0] * 4 + [1] * 2 + [2] * 4
    assert sum((plan.sites for plan in parts(unit)), ()) == unit.sites


def test_weights_are_rounded_hard_in_turn(unit, monkeypatch):
    """Of 9 steps each stage takes a third before it is hard; what is hard does not move."""
    seen = []
    plain = Reconstruct._regulariser

    def watched(step, roundings, ends, number):
        seen.append([(rounding.hard, rounding.alpha.detach().clone()) for rounding in roundings])
        return plain(step, roundings, ends, number)

    monkeypatch.setattr(Reconstruct, "_regulariser", watched)
    with torch.no_grad():
        replace(FEW, steps=9, in_turn=True).run_(unit)
    hard = [[is_hard for is_hard, _ in step] for step in seen]
    for part, places in enumerate((slice(0, 4), slice(4, 6), slice(6, 10))):
        expected = [number >= 3 * (part + 1) for number in range(9)]
        assert [all(step[places]) for step in hard] == expected
        assert [any(step[places]) for step in hard] == expected
    assert not torch.equal(seen[2][0][1], seen[3][0][1])
    assert torch.equal(seen[3][0][1] >= 0, seen[8][0][1] >= 0)


@torch.no_grad()
def test_parts_see_the_rounded_ones_before_them(unit):
    trained = []

    def train(part):
        trained.append(part)
        for layer in weights(part):
            layer.round_weight_()

    train_parts_(unit, train)
    assert [part.plan.name for part in trained] == STAGES
    first, second, third = trained
    assert second.inputs is first.targets
    assert third.inputs is second.targets
    for part, next_part in ((first, second), (second, third)):
        for state, following in zip(part.quantized_inputs, next_part.quantized_inputs, strict=True):
            for name, value in part.plan.run(unit.model, state).items():
                torch.testing.assert_close(following[name], value)
    for state, expected in zip(third.targets, unit.targets, strict=True):
        for name in unit.plan.outputs:
            torch.testing.assert_close(state[name], expected[name])


@torch.no_grad()
def test_the_joint_training_starts_near_what_its_parts_were_rounded_to(unit):
    floats = [layer.layer.weight.clone() for layer in weights(unit)]
    starts = train_parts_(unit, lambda part: FEW._train_(part, JointLoss(part)))
    for layer, weight, start in zip(weights(unit), floats, starts, strict=True):
        steps = weight / layer.weight_grid.scale
        share = (steps - steps.floor()).clamp(0, 1)
        inside = (steps + layer.weight_grid.zero_point > 0) & (
            steps + layer.weight_grid.zero_point < layer.weight_grid.levels
        )
        up = layer.layer.weight > weight
        expected = torch.where(up, share + DECIDED * (1 - share), share * (1 - DECIDED))
        torch.testing.assert_close(start[inside], expected[inside], atol=1e-4, rtol=0)


@pytest.fixture
@torch.no_grad()
def loss_of_parts(unit):
    """Of parts that train for half of the steps."""
    alone, half = copied(unit), replace(FEW, steps=15)
    train_parts_(alone, lambda part: half._train_(part, JointLoss(part)))
    return final_loss(alone, JointLoss(alone))


@torch.no_grad()
def test_after_its_parts_the_joint_unit_comes_closer(unit, loss_of_parts):
    replace(FEW, parts_first=True).run_(unit)
    after = unit.notes[-1]["loss_after"]
    assert len(unit.notes[-1]["loss_by_step"]) == 15
    assert after < loss_of_parts
    assert final_loss(unit, JointLoss(unit)) == pytest.approx(after)


@torch.no_grad()
def test_where_the_joint_training_is_worse_than_its_parts_they_are_kept(
    unit, loss_of_parts, monkeypatch
):
    plain = Reconstruct._train_

    def spoiled(step, trained, joint_loss, starts=()):
        losses = plain(step, trained, joint_loss, starts)
        for layer in weights(trained) if starts else ():
            layer.layer.weight.zero_()
        return losses

    monkeypatch.setattr(Reconstruct, "_train_", spoiled)
    replace(FEW, parts_first=True).run_(unit)
    assert unit.notes[-1]["loss_after"] == pytest.approx(loss_of_parts)
    assert final_loss(unit, JointLoss(unit)) == pytest.approx(loss_of_parts)
