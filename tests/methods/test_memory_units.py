"""What steps do to the memory of SAM 2: its output stays where they fold, or they pass it over."""

from functools import partial

import pytest
import torch
from tiny_clips import clip_state

from carsam.families import FAMILIES
from carsam.methods.base import Unit
from carsam.methods.registry import make_recipe, make_steps
from carsam.methods.steps.folding.balance_attention import BalanceAttention
from carsam.methods.steps.folding.fold_norms import FoldNorms
from carsam.methods.steps.mac.compensate import Compensate

LAYER = "memory_attention.layers.0"
SELF, ACROSS = f"{LAYER}.self_attn", f"{LAYER}.cross_attn_image"
FUSER = "memory_encoder.memory_fuser.layers.1"


@pytest.fixture
def unit_of(tiny_sam2_video, make_unit_of):
    """Function (stage path) -> that stage of the tiny SAM 2 as a float unit, on two clips."""
    clips = tuple(clip_state(FAMILIES["sam2_video"], seed) for seed in range(2))
    return partial(make_unit_of, tiny_sam2_video, states=clips)


@torch.no_grad()
def outputs(unit: Unit) -> torch.Tensor:
    return unit.plan.run(unit.model, unit.inputs[0])[unit.plan.outputs[0]]


@torch.no_grad()
@pytest.mark.parametrize(
    ("path", "readers"), [(SELF, 3), (ACROSS, 1), (f"{LAYER}.linear1", 1), (FUSER, 1)]
)
def test_folding_a_norm_reaches_all_its_readers(unit_of, path, readers):
    unit = unit_of(path)
    before = unit.plan.stages[0].norm
    assert len(before.layers) == readers
    norm = unit.model.get_submodule(before.norm)
    norm.weight.mul_(torch.linspace(0.25, 4, len(norm.weight)))
    expected, scales = outputs(unit), norm.weight.clone()
    FoldNorms().run_(unit)
    assert not torch.equal(norm.weight, scales)
    # Changed biases are kept in fp16.
    torch.testing.assert_close(outputs(unit), expected, atol=2e-2, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("path", [SELF, ACROSS])
def test_balanced_attention_attends_as_before(unit_of, path):
    """Rotations turn pairs of channels: both get one positive factor, and keys no shift."""
    unit = unit_of(path)
    expected = outputs(unit)
    attention = unit.model.get_submodule(path)
    layers = [getattr(attention, f"{name}_proj").layer for name in "qk"]
    weights = [layer.weight.clone() for layer in layers]
    bias = layers[1].bias.clone()
    BalanceAttention().run_(unit)
    torch.testing.assert_close(outputs(unit), expected, atol=2e-2, rtol=0)
    factors = [(layer.weight / w).mean(1) for layer, w in zip(layers, weights, strict=True)]
    for layer, weight, factor in zip(layers, weights, factors, strict=True):
        torch.testing.assert_close(layer.weight, factor[:, None] * weight)
        pairs = factor.unflatten(0, (-1, 2))
        torch.testing.assert_close(pairs[:, 0], pairs[:, 1])
        assert bool((factor > 0).all()) and float(factor.std()) > 1e-3
    torch.testing.assert_close(factors[0] * factors[1], torch.ones_like(factors[0]))
    torch.testing.assert_close(layers[1].bias, factors[1] * bias, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_compensation_leaves_rotated_attention_alone_by_name(unit_of):
    unit = unit_of(ACROSS)
    before = {name: p.clone() for name, p in unit.model.named_parameters()}
    Compensate().run_(unit)
    assert all(torch.equal(p, before[name]) for name, p in unit.model.named_parameters())
    reason = "queries and keys are rotated by their places"
    assert unit.notes == [{"step": "compensate", "site": ACROSS, "left_alone": reason}]


@torch.no_grad()
@pytest.mark.parametrize(
    ("recipe", "step"), [("gptq", "feed-back-errors"), ("erq", "reduce-errors")]
)
def test_depthwise_convolutions_are_rounded_to_nearest_by_name(unit_of, recipe, step):
    unit = unit_of(FUSER)
    layer = unit.model.get_submodule(f"{FUSER}.depthwise_conv")
    weight = layer.layer.weight.flatten(1).clone()
    for each in make_steps(make_recipe(recipe, "w4a4")):
        each.run_(unit)
    assert torch.equal(layer.layer.weight.flatten(1), layer.weight_grid(weight))
    (note,) = (note for note in unit.notes if note["step"] == step)
    assert note["site"] == f"{FUSER}.depthwise_conv" and "nearest" in note["left_alone"]


@torch.no_grad()
def test_inputs_of_the_memorys_mlps_get_the_grids_of_mlps(unit_of):
    unit = unit_of(f"{LAYER}.linear1")
    for step in make_steps(make_recipe("ahcptq", "w4a4", settings=["reconstruct.steps=1"])):
        step.run_(unit)
    first, second = (unit.model.get_submodule(f"{LAYER}.linear{n}") for n in (1, 2))
    assert type(first.input_quantizer).__name__ == "GroupedUniformGrid"
    assert type(second.input_quantizer).__name__ == "LogUniformGrid"
