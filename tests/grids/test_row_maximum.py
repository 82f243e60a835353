import math

import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.errors import UserError
from carsam.evaluation.strict import StrictError, assert_strict
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.methods.recipe import Recipe, Step
from carsam.simulation.attention import AttentionProduct, rounding_of_probabilities
from carsam.simulation.trainable import LearnedGrid

RECIPE = Recipe("test", (Step("round-to-nearest"), Step("row-maximum-softmax")))
ATTENTION = "vision_encoder.layers.1.attn"


def operands(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(2, 3, rows, 8, generator=generator) for rows in (5, 9, 9)]


def attended(quantizer, query, key, value):
    product = AttentionProduct()
    product.quantizers["probabilities"] = quantizer
    return product(query, key, value, 0.4)


def test_the_uniform_grid_has_evenly_spaced_values():
    grid = RowMaximumGrid.curved(0.0, 4)
    torch.testing.assert_close(grid.values(torch.arange(16)), torch.arange(16) / 15)


def test_a_curved_grid_is_uniform_in_the_logarithm_up_to_a_510th():
    grid = RowMaximumGrid.curved(8.0, 2)
    expected = torch.tensor([0.0, (9 ** (1 / 3) - 1) / 8, (9 ** (2 / 3) - 1) / 8, 1.0])
    assert ((grid.values(torch.arange(4)) - expected).abs() <= 0.5 / 255).all()


def test_values_are_rounded_to_a_255th_and_then_to_the_nearest_numerator():
    grid = RowMaximumGrid(torch.ones(1), torch.tensor([0, 3, 8, 255]), 2)
    steps = torch.tensor([0.0, 1.0, 1.4, 1.6, 5.0, 5.4, 5.6, 131.4, 131.6, 255.0, 300.0])
    assert grid.codes(steps / 255).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3]


def test_a_row_shares_out_what_its_numerators_say():
    probabilities = torch.tensor([[0.6, 0.3, 0.1, 0.0], [1e-3, 1e-3, 1e-3, 1e-3]])
    rows = rounding_of_probabilities(RowMaximumGrid.curved(0.0, 8))(probabilities)
    n = torch.tensor([255.0, 128.0, 42.0, 0.0])
    torch.testing.assert_close(rows, torch.stack([n / n.sum(), torch.full((4,), 0.25)]))


def test_the_product_is_normalised_by_the_sum_of_the_codes():
    query, key, value = operands()
    grid = RowMaximumGrid.curved(16.0, 4).scaled(torch.tensor([0.9]))
    steps = 32 / math.log(2)
    scores = (query @ key.mT * (0.4 * steps)).round() / steps
    probabilities = torch.softmax(scores, -1)
    expected = rounding_of_probabilities(grid)(probabilities) @ value
    torch.testing.assert_close(attended(grid, query, key, value), expected)


def test_many_codes_are_the_float_attention():
    query, key, value = operands()
    exact = torch.softmax(query @ key.mT * 0.4, -1) @ value
    error = attended(RowMaximumGrid.curved(0.0, 8), query, key, value) - exact
    assert error.square().sum() < 1e-4 * exact.square().sum()


def test_training_sees_what_evaluation_does():
    query, key, value = operands()
    grid = RowMaximumGrid.curved(16.0, 4)
    learned = LearnedGrid(grid, 1.0, torch.Generator())
    learned.factor.data.fill_(0.8)
    trained = attended(learned, query.requires_grad_(), key, value)
    torch.testing.assert_close(
        trained.detach(), attended(learned.fixed(), query.detach(), key, value)
    )
    trained.square().sum().backward()
    assert float(learned.factor.grad.abs()) > 0
    assert bool(query.grad.isfinite().all() & query.grad.any())


def test_the_largest_of_a_row_keeps_the_highest_code():
    grid = RowMaximumGrid.curved(16.0, 4).scaled(torch.tensor([1.5]))
    assert float(grid.scale) == 1
    assert float(grid.codes(torch.ones(1))) == 15


@pytest.mark.parametrize(
    ("scale", "numerators"),
    [(1.0, [0, 9, 8, 255]), (1.0, [1, 8, 9, 255]), (1.0, [0, 8, 9, 254]), (1.5, [0, 8, 9, 255])],
)
def test_what_is_no_such_grid_is_refused(scale, numerators):
    with pytest.raises(UserError, match="A row-maximum grid of"):
        RowMaximumGrid(torch.tensor([scale]), torch.tensor(numerators), 2)


@pytest.fixture
def model(tiny_sam, image_folder):
    return quantize(tiny_sam, image_folder, RECIPE, count=1)


def test_a_model_passes_the_strict_check(model, photo):
    assert_strict(model, [photo])


def test_parts_off_the_grid_are_found_where_they_are_multiplied(model, photo):
    grid = model.module.get_submodule(ATTENTION).product.quantizers["probabilities"]
    grid.numerators_of_logits = lambda logits: torch.exp2(logits)
    with pytest.raises(StrictError, match=f"{ATTENTION}: probabilities enters its product with"):
        assert_strict(model, [photo])
