"""One pass over the probabilities for many grids, against rounding to one grid after the other."""

import pytest
import torch

from carsam.grids.kernels import training
from carsam.grids.listed_products import ListedProducts
from carsam.grids.tables import Log1pGrid, LogGrid, TwinUniformGrid
from carsam.methods.steps.softmax import grid_search
from carsam.methods.steps.softmax.grid_search import ProbabilitySearch
from carsam.runtime import kernels

pytestmark = pytest.mark.skipif(training is None, reason="the extension is not built")
SETS = [] if training is None else training.usable_sets()
GRIDS = [
    *(LogGrid(torch.tensor([2.0 ** (-power / 4)]), 2, 4) for power in range(8)),
    LogGrid(torch.tensor([0.9]), 1, 2),
    Log1pGrid(torch.tensor([0.7]), torch.tensor([30.0]), 4),
    TwinUniformGrid(torch.tensor([0.01]), 3, 0, 4),
]


def operands(rows=5, keys=900, width=19):
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.softmax(4 * torch.randn(2, 3, rows, keys, generator=generator), -1)
    middles = torch.cat([grid.rounding(torch.ones(1)).middles for grid in GRIDS])
    probabilities[0, 0, 0, : len(middles)] = middles  # numbers between two values
    return probabilities, torch.randn(2, 3, keys, width, generator=generator)


@pytest.fixture(params=SETS)
def instruction_set(request):
    before = kernels.instruction_set()
    kernels.use_instruction_set(request.param)
    yield
    kernels.use_instruction_set(before)


@pytest.mark.parametrize("threads", [1, 3])
def test_all_products_are_those_of_one_grid_after_the_other(instruction_set, threads):
    probabilities, values = operands()
    products = ListedProducts(GRIDS)
    assert products.takes(probabilities)
    kernels.set_threads(threads)
    found = products(probabilities, values)
    kernels.set_threads(1)
    for grid, product in zip(GRIDS, found.unbind(3), strict=True):
        torch.testing.assert_close(product, grid(probabilities) @ values, rtol=1e-4, atol=1e-6)


def test_values_that_all_images_share_are_those_of_each():
    probabilities, values = operands()
    products = ListedProducts(GRIDS)
    expected = products(probabilities, values[:1].expand(2, -1, -1, -1))
    assert torch.equal(products(probabilities, values[:1]), expected)


def test_few_keys_are_rounded_to_one_grid_after_the_other():
    probabilities, _ = operands()
    assert not ListedProducts(GRIDS).takes(probabilities[..., :100])


def test_the_search_finds_the_same_errors_either_way(monkeypatch):
    probabilities, values = operands()
    found = ProbabilitySearch(GRIDS, 2.4, 5, 0)
    found.add(probabilities, values)
    monkeypatch.setattr(grid_search.ListedProducts, "takes", lambda self, some: False)
    expected = ProbabilitySearch(GRIDS, 2.4, 5, 0)
    expected.add(probabilities, values)
    torch.testing.assert_close(found._errors, expected._errors, rtol=1e-4, atol=0.0)
    assert found.best == expected.best
