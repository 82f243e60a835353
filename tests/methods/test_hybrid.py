import pytest
import torch

from carsam.grids.tables import LogUniformGrid
from carsam.methods.inspecting.entry_layers import entry_layers, second_layers
from carsam.methods.inspecting.operands import observe_again_
from carsam.methods.steps.ranges.hybrid_log_uniform import HybridLogUniform
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.simulation import slots

PATH = "vision_encoder.layers.0.mlp"


def paths(sites):
    return [site.path.rpartition(".")[2] for site in sites]


def test_places_are_told_by_order(make_unit):
    mlp = make_unit(PATH)
    assert (paths(entry_layers(mlp)), paths(second_layers(mlp))) == (["lin1"], ["lin2"])
    attention = make_unit("mask_decoder.transformer.layers.0.self_attn")
    assert paths(entry_layers(attention)) == ["q_proj", "k_proj", "v_proj"]
    assert paths(second_layers(attention)) == []


def test_the_neck_has_no_place(make_unit):
    neck = make_unit("vision_encoder.neck")
    assert entry_layers(neck) == second_layers(neck) == ()


@torch.no_grad()
def test_skewed_activations_come_out_better_than_on_a_uniform_grid(make_unit):
    errors = []
    for steps in ((), (HybridLogUniform(),)):
        unit = make_unit(PATH, bits="w32a4")
        lin1 = slots.layer(unit.model, unit.sites[0][0])
        lin1.layer.bias.sub_(1.5)  # most values after GELU are just below 0
        site = unit.sites[1][0]
        observe_again_(unit, [(site, "input")])
        RoundToNearest("mse", "averaged-minmax").run_(unit)
        for step in steps:
            step.run_(unit)
        grid = slots.quantizer(unit.model, site, "input")
        values = torch.nn.functional.gelu(torch.randn(5000, 64) - 1.5)
        errors.append(float((grid(values) - values).square().sum()))
    assert isinstance(grid, LogUniformGrid)
    assert errors[1] < errors[0]


@torch.no_grad()
@pytest.mark.parametrize("bits", ["w4a2", "w4a8"])
def test_the_grid_spans_the_range(make_unit, bits):
    unit = make_unit(PATH, bits=bits)
    HybridLogUniform().run_(unit)
    site = unit.sites[1][0]
    grid = slots.quantizer(unit.model, site, "input")
    statistics = unit.statistics[site.path, "input"]
    table = grid.table(grid.scale)
    assert float(table[0]) == pytest.approx(sum(statistics.lows) / 3, abs=1e-5)
    assert float(table[-1]) == pytest.approx(sum(statistics.highs) / 3, rel=1e-5)
