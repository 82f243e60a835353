import pytest
import torch

from carsam.grids.tables import LogGrid
from carsam.methods.inspecting.operands import in_float, run_products
from carsam.methods.steps.softmax.adaptive_granularity import AdaptiveGranularity
from carsam.simulation import slots

PATH = "mask_decoder.transformer.layers.0.self_attn"


@pytest.fixture
def unit(make_unit):
    return make_unit(PATH)


def attention(unit):
    return next(site for site, _ in unit.sites if site.path == PATH)


def error(unit, grid):
    errors = []

    def add(probabilities, values):
        errors.append(((grid(probabilities) - probabilities) @ values).abs().pow(2.4).sum())

    with in_float(unit):
        run_products(unit, unit.inputs, attention(unit), add)
    return float(torch.stack(errors).sum())


@torch.no_grad()
def test_the_chosen_grid_is_the_best_of_all(unit):
    AdaptiveGranularity().run_(unit)
    chosen = slots.quantizer(unit.model, attention(unit), "probabilities")
    assert isinstance(chosen, LogGrid)
    for granularity in (1, 2, 4):
        for scale in (0.2, 0.5, 0.9):
            other = LogGrid(torch.tensor([scale]), granularity, 4)
            assert error(unit, chosen) <= 1.1 * error(unit, other)


@torch.no_grad()
def test_the_product_that_is_compared_is_that_of_probabilities_and_values(unit):
    seen = []
    with in_float(unit):
        run_products(unit, unit.inputs[:1], attention(unit), lambda a, v: seen.append((a, v)))
    (probabilities, values), *others = seen
    assert not others
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(probabilities.shape[:-1]))
    assert values.shape[-2] == probabilities.shape[-1]


@torch.no_grad()
def test_one_granularity_can_be_forced(unit):
    AdaptiveGranularity(granularities="2").run_(unit)
    assert slots.quantizer(unit.model, attention(unit), "probabilities").granularity == 2


def test_granularities_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r'Granularities "fine" are not understood'):
        AdaptiveGranularity(granularities="fine")
