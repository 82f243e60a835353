import pytest
import torch

from carsam.grids.tables import LogGrid
from carsam.methods.inspecting.operands import in_float
from carsam.methods.steps.softmax.adaptive_granularity import AdaptiveGranularity
from carsam.methods.steps.softmax.grid_search import ProbabilitySearch
from carsam.simulation import slots

PATH = "mask_decoder.transformer.layers.0.self_attn"


@pytest.fixture
def unit(make_unit):
    return make_unit(PATH)


def attention(unit):
    return next(site for site, _ in unit.sites if site.path == PATH)


@pytest.fixture
def error(unit, products):
    """Function grid -> |A^ V - A V|**2.4 over the unit's float images."""
    with in_float(unit), torch.no_grad():
        images = products(unit, attention(unit))

    def error(grid):
        return sum(float(((grid(a) - a) @ v).abs().pow(2.4).sum()) for a, v in images)

    return error


@torch.no_grad()
def test_the_chosen_grid_is_the_best_of_all(unit, error):
    AdaptiveGranularity().run_(unit)
    chosen = slots.quantizer(unit.model, attention(unit), "probabilities")
    assert isinstance(chosen, LogGrid)
    for granularity in (1, 2, 4):
        for scale in (0.2, 0.5, 0.9):
            other = LogGrid(torch.tensor([scale]), granularity, 4)
            assert error(chosen) <= 1.1 * error(other)


@torch.no_grad()
@pytest.mark.parametrize("path", [PATH, "vision_encoder.layers.1.attn"])
def test_the_product_that_is_compared_is_that_of_probabilities_and_values(
    make_unit, products, monkeypatch, path
):
    unit = make_unit(path)
    site = next(site for site, _ in unit.sites if site.path == path)
    with in_float(unit):
        images = products(unit, site)
    compared = []
    monkeypatch.setattr(
        ProbabilitySearch, "add", lambda self, some, values: compared.append((some, values))
    )
    AdaptiveGranularity(queries=1000).run_(unit)
    assert len(compared) == len(images)
    for (some, values), (probabilities, expected) in zip(compared, images, strict=True):
        torch.testing.assert_close(some.sum(2), probabilities.sum(2))  # the rows in another order
        assert torch.equal(values, expected)


@torch.no_grad()
def test_one_granularity_can_be_forced(unit):
    AdaptiveGranularity(granularities="2").run_(unit)
    assert slots.quantizer(unit.model, attention(unit), "probabilities").granularity == 2


def test_granularities_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r'Granularities "fine" are not understood'):
        AdaptiveGranularity(granularities="fine")
