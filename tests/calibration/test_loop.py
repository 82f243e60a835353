"""What the loop hands from one unit to the next, in float and along the quantized path."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.families import FAMILIES
from carsam.methods import registry
from carsam.methods.base import UnitStep
from carsam.methods.recipe import Recipe, Step
from carsam.methods.units import plan_units
from carsam.simulation.model import prepare


@pytest.fixture
def flow(tiny_sam, image_folder, monkeypatch):
    """A quantized model, and of every unit its plan, inputs and quantized inputs."""
    seen = []

    @dataclass(frozen=True)
    class Keep(UnitStep):
        needs_quantized_path = True

        def run_(self, unit):
            seen.append((unit.plan, tuple(unit.inputs), tuple(unit.quantized_inputs)))

    monkeypatch.setitem(registry.STEPS, "keep", Keep)
    recipe = Recipe("test", (Step("round-to-nearest", {"activations": "minmax"}), Step("keep")))
    return quantize(tiny_sam, image_folder, recipe, count=2), seen


def assert_same(states, expected):
    for state, other in zip(states, expected, strict=True):
        assert state.keys() == other.keys()
        assert all(torch.equal(state[name], other[name]) for name in state)


@torch.no_grad()
def test_a_units_quantized_inputs_come_out_of_the_quantized_units_before_it(flow):
    model, seen = flow
    for (plan, _, quantized), (_, _, following) in pairwise(seen):
        assert_same([plan.run(model.module, state) for state in quantized], following)


@torch.no_grad()
def test_a_units_float_inputs_come_out_of_the_float_units_before_it(flow, tiny_sam):
    _, seen = flow
    original = prepare(FAMILIES["sam"], tiny_sam)
    for (plan, inputs, _), (_, following, _) in pairwise(seen):
        assert_same([plan.run(original, state) for state in inputs], following)


def test_both_paths_begin_with_the_images_and_part_at_the_first_quantized_unit(flow):
    _, seen = flow
    quantized_before = False
    for plan, inputs, quantized in seen:
        same = all(
            torch.equal(state[name], other[name])
            for state, other in zip(inputs, quantized, strict=True)
            for name in state
        )
        assert same is not quantized_before
        quantized_before = quantized_before or bool(plan.sites)


def test_every_unit_up_to_the_last_quantized_one_has_its_turn(flow, tiny_sam):
    _, seen = flow
    family = FAMILIES["sam"]
    plans = plan_units(family.stages(tiny_sam), family.sites(tiny_sam), Recipe("test", ()))
    assert [plan.name for plan, _, _ in seen] == [plan.name for plan in plans]
