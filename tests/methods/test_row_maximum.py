import pytest
import torch

from carsam.methods.inspecting.operands import in_float
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.softmax.adaptive_granularity import AdaptiveGranularity
from carsam.methods.steps.softmax.row_maximum_softmax import CURVATURES, RowMaximumSoftmax
from carsam.simulation import slots
from carsam.simulation.attention import rounding_of_probabilities

PATH = "mask_decoder.transformer.layers.0.cross_attn_token_to_image"


@pytest.fixture
def unit(make_unit):
    return make_unit(PATH)


def attention(unit):
    return next(site for site, _ in unit.sites if site.path == PATH)


@pytest.fixture
def error(unit, products):
    """Function grid -> |A^ V - A V|^2 over the unit's float images."""
    with in_float(unit), torch.no_grad():
        images = products(unit, attention(unit))

    def error(grid):
        rounding = rounding_of_probabilities(grid)
        return sum(float(((rounding(a) - a) @ v).square().sum()) for a, v in images)

    return error


def chosen(unit, step):
    step.run_(unit)
    return slots.quantizer(unit.model, attention(unit), "probabilities")


@torch.no_grad()
def test_the_chosen_grid_is_the_best_of_all(unit, error):
    best = error(chosen(unit, RowMaximumSoftmax()))
    statistics = unit.statistics[PATH, "probabilities"]
    candidates = RowMaximumSoftmax().candidates(statistics, 4, torch.device("cpu"))
    assert best == pytest.approx(min(error(grid) for grid, _ in candidates))
    assert unit.notes[-1]["curvature"] in CURVATURES


@torch.no_grad()
@pytest.mark.parametrize("other", [RoundToNearest(), AdaptiveGranularity()])
def test_it_is_better_than_one_range_for_all_rows(unit, error, other):
    theirs = error(chosen(unit, other))
    assert error(chosen(unit, RowMaximumSoftmax())) < 0.5 * theirs


@torch.no_grad()
def test_a_finished_unit_shows_its_parts_to_taps(unit, products):
    grid = chosen(unit, RowMaximumSoftmax())
    parts, _ = products(unit, attention(unit))[0]
    assert torch.equal(parts.amax(-1), torch.ones(parts.shape[:-1]))
    assert torch.equal(grid(parts), parts)
