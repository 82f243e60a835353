import pytest
import torch

from carsam.grids.tables import TwinUniformGrid
from carsam.methods.inspecting.operands import in_float, replaced, value_at
from carsam.methods.steps.ranges.perceptual_clipping import PerceptualClipping
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.softmax.twin_uniform import TwinUniform
from carsam.simulation import slots

PATH = "mask_decoder.transformer.layers.0.cross_attn_token_to_image"


def overlap(unit):
    """Of the places where the attention looks, in float and with its operands rounded."""
    site = next(site for site, _ in unit.sites if site.path == PATH)
    operands = [(site, "query"), (site, "key")]
    operands += [(s, "input") for s, _ in unit.sites if s.path.endswith(("q_proj", "k_proj"))]
    grids = {key: slots.quantizer(unit.model, *key) for key in operands}
    found = []
    for present in ({}, grids):
        with in_float(unit), replaced(unit.model, present):
            weights = value_at(unit, (site, "probabilities"), unit.inputs[0])
        found.append(weights > 0.5 * weights.amax(-1, keepdim=True))
    return float((found[0] & found[1]).sum() / (found[0] | found[1]).sum())


@torch.no_grad()
def test_the_attention_looks_where_it_looked(make_unit):
    unit = make_unit(PATH, bits="w4a3")
    RoundToNearest("mse", "minmax", rounds_weights=False).run_(unit)
    before = overlap(unit)
    PerceptualClipping().run_(unit)
    after = overlap(unit)
    assert after >= before
    assert after == pytest.approx(unit.notes[-1]["overlap"], abs=1e-6)


@torch.no_grad()
def test_twin_grids_stand_after_softmax_and_activation_functions(make_unit):
    attention = make_unit(PATH)
    TwinUniform().run_(attention)
    site = next(site for site, _ in attention.sites if site.path == PATH)
    grid = slots.quantizer(attention.model, site, "probabilities")
    assert isinstance(grid, TwinUniformGrid)
    assert grid.signed == 0
    mlp = make_unit("vision_encoder.layers.0.mlp")
    TwinUniform().run_(mlp)
    grid = slots.quantizer(mlp.model, mlp.sites[1][0], "input")
    assert grid.signed == 1
    assert isinstance(slots.quantizer(mlp.model, mlp.sites[0][0], "input"), torch.nn.Identity)
