import pytest
import torch

from carsam.methods.inspecting.operands import in_float, run_products
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.softmax.adaptive_granularity import AdaptiveGranularity
from carsam.methods.steps.softmax.row_maximum_softmax import CURVATURES, RowMaximumSoftmax
from carsam.simulation import slots
from carsam.simulation.attention import rounded_probabilities

PATH = "mask_decoder.transformer.layers.0.cross_attn_token_to_image"


@pytest.fixture
def unit(make_unit):
    return make_unit(PATH)


def attention(unit):
    return next(site for site, _ in unit.sites if site.path == PATH)


def error(unit, grid):
    errors = []

    def add(probabilities, values):
        change = rounded_probabilities(grid, probabilities) - probabilities
        errors.append((change @ values).square().sum())

    with in_float(unit):
        run_products(unit, unit.inputs, attention(unit), add)
    return float(torch.stack(errors).sum())


def chosen(unit, step):
    step.run_(unit)
    return slots.quantizer(unit.model, attention(unit), "probabilities")


@torch.no_grad()
def test_the_chosen_grid_is_the_best_of_all(unit):
    best = error(unit, chosen(unit, RowMaximumSoftmax()))
    statistics = unit.statistics[PATH, "probabilities"]
    candidates = RowMaximumSoftmax().candidates(statistics, 4, torch.device("cpu"))
    assert best == pytest.approx(min(error(unit, grid) for grid, _ in candidates))
    assert unit.notes[-1]["curvature"] in CURVATURES


@torch.no_grad()
@pytest.mark.parametrize("other", [RoundToNearest(), AdaptiveGranularity()])
def test_it_is_better_than_one_range_for_all_rows(unit, other):
    theirs = error(unit, chosen(unit, other))
    assert error(unit, chosen(unit, RowMaximumSoftmax())) < 0.5 * theirs


@torch.no_grad()
def test_a_finished_unit_shows_its_parts_to_taps(unit):
    grid = chosen(unit, RowMaximumSoftmax())
    seen = []
    run_products(unit, unit.inputs[:1], attention(unit), lambda a, v: seen.append(a))
    assert torch.equal(seen[0].amax(-1), torch.ones(seen[0].shape[:-1]))
    assert torch.equal(grid(seen[0]), seen[0])
