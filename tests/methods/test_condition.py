import pytest
import torch

from carsam.grids.tables import Log1pGrid
from carsam.methods.inspecting.operands import in_float
from carsam.methods.steps.folding.reduce_condition import ReduceCondition
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.softmax.logarithmic_softmax import LogarithmicSoftmax
from carsam.simulation import slots

PATH = "vision_encoder.layers.0.mlp"
ATTENTION = "mask_decoder.transformer.layers.0.self_attn"


@torch.no_grad()
def make_ill_conditioned_(unit):
    layer = slots.layer(unit.model, unit.sites[0][0]).layer
    left, values, right = torch.linalg.svd(layer.weight, full_matrices=False)
    values[-8:] = 1e-5 * values[0]
    layer.weight.copy_(left * values @ right)
    return layer


@torch.no_grad()
def test_small_singular_values_rise_and_large_ones_stay(make_unit):
    unit = make_unit(PATH)
    layer = make_ill_conditioned_(unit)
    before = torch.linalg.svdvals(layer.weight)
    ReduceCondition().run_(unit)
    after = torch.linalg.svdvals(layer.weight)
    (note,) = unit.notes
    assert note["before"] > 1e4
    assert note["after"] < 0.01 * note["before"]
    torch.testing.assert_close(after[:8], before[:8], rtol=1e-4, atol=0)


@torch.no_grad()
def test_statistics_follow_the_changed_weights(make_unit):
    unit = make_unit(PATH)
    make_ill_conditioned_(unit)
    before = unit.statistics[f"{PATH}.lin2", "input"]
    ReduceCondition().run_(unit)
    assert unit.statistics[f"{PATH}.lin2", "input"].highs != before.highs


@torch.no_grad()
def test_well_conditioned_weights_stay(make_unit):
    unit = make_unit(PATH)
    layer = slots.layer(unit.model, unit.sites[0][0]).layer
    before = layer.weight.clone()
    ReduceCondition().run_(unit)
    assert torch.equal(layer.weight, before)
    assert unit.notes == []


def test_errors_of_the_input_hold_a_value_down():
    values = torch.tensor([10.0, 1.0, 0.1, 0.1])
    lifted = ReduceCondition().lift(values, torch.tensor([0.0, 0.0, 0.0, 100.0]))
    assert lifted[2] > lifted[3] >= 0.1
    assert torch.equal(lifted[:1], values[:1])


def test_one_step_is_the_minimum_of_its_objective():
    step = ReduceCondition(iterations=1, attraction=0.1, caution=0.05)
    values, errors = torch.tensor([10.0, 0.5]), torch.tensor([1.0, 2.0])
    lifted = step.lift(values, errors)[1]
    tries = torch.linspace(0.5, 2, 100_001)
    cost = (tries - 0.5) ** 2 / 2 + 0.1 * (tries - values.mean()) ** 2 + 0.05 * 2 * tries**2
    assert float(lifted) == pytest.approx(float(tries[cost.argmin()]), abs=1e-3)


@torch.no_grad()
def test_a_shifted_logarithm_never_loses_much_to_plain_grids(make_unit, products):
    """Its extremes are a nearly uniform and a logarithmic grid."""
    errors = {}
    for step in (RoundToNearest("mse", "minmax", False), LogarithmicSoftmax()):
        unit = make_unit(ATTENTION)
        step.run_(unit)
        site = next(site for site, _ in unit.sites if site.path == ATTENTION)
        grid = slots.quantizer(unit.model, site, "probabilities")
        with in_float(unit):
            images = products(unit, site)
        errors[type(grid).__name__] = sum(
            float(((grid(a) - a) @ v).abs().pow(2.4).sum()) for a, v in images
        )
    assert isinstance(grid, Log1pGrid)
    assert errors["Log1pGrid"] <= errors["UniformGrid"]
