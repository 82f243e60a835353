import pytest
import torch

from carsam.grids.base import UniformGrid
from carsam.methods.inspecting.layer_inputs import (
    InputMoments,
    float_layers,
    input_moments,
    input_pairs,
)
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.rounding.erq import ReduceErrors, correct_inputs, round_by_halves
from carsam.methods.steps.rounding.gptq import FeedBackErrors, compensated, inverse_factor
from carsam.simulation import slots

PATH = "vision_encoder.layers.0.mlp"


def draw(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def problem():
    """Weights (8, 200), correlated inputs, and the same inputs coarsely rounded."""
    mixing = draw(200, 200, seed=1) * torch.logspace(0, -2, 200).double()[:, None]
    inputs = draw(2000, 200, seed=2) @ mixing + 0.5
    step = inputs.std() / 2
    return draw(8, 200, seed=3).float(), inputs, torch.round(inputs / step) * step


def moments_of(inputs, quantized):
    shift = inputs - quantized
    return InputMoments(
        quantized.T @ quantized, shift.T @ quantized, quantized.sum(0), shift.sum(0), len(inputs)
    )


def error(rows, weights, inputs, quantized, bias=0.0):
    return float((quantized @ rows.double().T + bias - inputs @ weights.double().T).square().sum())


def feed_back(weights, grid, moments, damping, share, ordered):
    shift = share * moments.shift if share else None
    return grid(compensated(weights, grid, moments.quantized, shift, damping, ordered))


def grid_of(weights, bits=3):
    low, high = weights.aminmax(dim=1, keepdim=True)
    return UniformGrid.from_range(low, high, bits)


@pytest.mark.parametrize("ordered", [True, False])
def test_gptq_beats_rounding_to_nearest(problem, ordered):
    weights, inputs, _ = problem
    grid = grid_of(weights)
    rows = feed_back(weights, grid, moments_of(inputs, inputs), 0.01, 0.0, ordered)
    assert torch.equal(grid(rows), rows)
    nearest = error(grid(weights), weights, inputs, inputs)
    assert error(rows, weights, inputs, inputs) < 0.5 * nearest


def test_pieces_of_columns_give_what_one_piece_gives(problem, monkeypatch):
    weights, inputs, quantized = problem
    grid, moments = grid_of(weights), moments_of(inputs, quantized)
    expected = feed_back(weights, grid, moments, 0.1, 1.0, True)
    monkeypatch.setattr("carsam.methods.steps.rounding.gptq.COLUMNS_AT_ONCE", 1000)
    assert torch.equal(feed_back(weights, grid, moments, 0.1, 1.0, True), expected)


def test_the_asymmetric_term_comes_closer_to_the_float_output(problem):
    weights, inputs, quantized = problem
    grid, moments = grid_of(weights), moments_of(inputs, quantized)
    errors = [
        error(feed_back(weights, grid, moments, 0.1, share, True), weights, inputs, quantized)
        for share in (0.0, 1.0)
    ]
    assert errors[1] < errors[0]


def test_inputs_that_are_always_0_do_no_harm(problem):
    weights, inputs, _ = problem
    inputs = inputs.clone()
    inputs[:, 5] = 0
    rows = feed_back(weights, grid_of(weights), moments_of(inputs, inputs), 0.01, 0.0, True)
    assert bool(torch.isfinite(rows).all())


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_ridge_lowers_the_error_of_rounded_inputs(problem, with_bias):
    weights, inputs, quantized = problem
    rows, bias = correct_inputs(weights, moments_of(inputs, quantized), 1e-4, with_bias)
    bias = bias.double() if with_bias else 0.0
    before = error(weights, weights, inputs, quantized)
    assert error(rows, weights, inputs, quantized, bias) < before


def test_without_penalty_the_ridge_is_least_squares(problem):
    weights, inputs, quantized = problem
    rows, bias = correct_inputs(weights, moments_of(inputs, quantized), 0.0, True)
    design = torch.cat([quantized, torch.ones(len(quantized), 1).double()], 1)
    expected = torch.linalg.lstsq(design, inputs @ weights.double().T).solution.T
    torch.testing.assert_close(rows.double(), expected[:, :-1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(bias.double(), expected[:, -1], atol=1e-5, rtol=1e-4)


def by_halves(problem, flips):
    """Rows rounded half by half, and their error."""
    weights, inputs, _ = problem
    rows = round_by_halves(weights, grid_of(weights), inputs.T @ inputs, 0.01, flips)
    return rows, error(rows, weights, inputs, inputs)


def test_halves_are_rounded_to_the_grid(problem):
    rows, _ = by_halves(problem, 100)
    assert torch.equal(grid_of(problem[0])(rows), rows)


def test_the_second_regression_alone_beats_rounding_to_nearest(problem):
    weights, inputs, _ = problem
    nearest = error(grid_of(weights)(weights), weights, inputs, inputs)
    assert by_halves(problem, 0)[1] < 0.5 * nearest


def test_rounding_single_weights_the_other_way_lowers_the_error_further(problem):
    assert by_halves(problem, 100)[1] < 0.9 * by_halves(problem, 0)[1]


def test_the_second_half_makes_up_for_the_error_of_the_first():
    """0.4 becomes 0; inputs that are alike to 0.9 then ask for 0.3 + 0.9 * 0.4 of the other."""
    grid = UniformGrid(torch.ones(1, 1), torch.full((1, 1), 4.0), 3)
    gram = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    rows = round_by_halves(torch.tensor([[0.4, 0.3]]), grid, gram, 1e-9, flips=0)
    assert rows.tolist() == [[0.0, 1.0]]


def test_the_penalty_is_of_the_corrections_and_not_of_the_flips():
    """Two inputs that are always equal: 0.4 + 0.4 is nearer to 0 + 1 than to 0 + 0."""
    grid = UniformGrid(torch.ones(1, 1), torch.full((1, 1), 4.0), 3)
    gram = torch.eye(4, dtype=torch.float64)
    gram[:2, :2] = 1.0
    rows = round_by_halves(torch.tensor([[0.4, 0.4, 0.0, 0.0]]), grid, gram, 10.0, flips=100)
    assert sorted(rows[0, :2].tolist()) == [0.0, 1.0]


@torch.no_grad()
@pytest.mark.parametrize("step", [FeedBackErrors(), FeedBackErrors(asymmetry=1.0), ReduceErrors()])
def test_a_unit_comes_out_better_than_rounded_to_nearest(make_unit, step):
    errors = []
    for steps in ((RoundToNearest(),), (RoundToNearest(rounds_weights=False), step)):
        unit = make_unit(PATH, bits="w3a8")
        for each in steps:
            each.run_(unit)
        outputs = torch.stack([unit.plan.run(unit.model, s)["hidden"] for s in unit.inputs])
        targets = torch.stack([target["hidden"] for target in unit.targets])
        errors.append(float((outputs - targets).square().sum()))
    assert errors[1] < errors[0]


@pytest.mark.parametrize("step", [FeedBackErrors, ReduceErrors])
def test_an_unknown_observer_is_refused(step):
    with pytest.raises(ValueError, match="Observer best is not known"):
        step(weights="best")


@torch.no_grad()
def test_moments_are_those_of_what_the_layer_multiplies(make_unit):
    unit = make_unit(PATH)
    RoundToNearest(rounds_weights=False).run_(unit)
    originals = float_layers(unit)
    site = unit.sites[1][0]  # lin2, after lin1 and GELU
    layer = slots.layer(unit.model, site)
    seen = []
    layer.layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for state in unit.quantized_inputs:
        unit.plan.run(unit.model, state)
    rows = torch.cat([each.flatten(0, -2) for each in seen]).double()
    moments = input_moments(unit, site, originals)
    torch.testing.assert_close(moments.quantized, rows.T @ rows)
    assert moments.rows == len(rows)


@torch.no_grad()
def test_a_convolutions_rows_are_its_patches(make_unit):
    unit = make_unit("vision_encoder.neck")
    site = unit.sites[1][0]
    layer = slots.layer(unit.model, site).layer
    moments = input_moments(unit, site, float_layers(unit))
    rows = layer.weight.flatten(1).double()
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    for state in unit.quantized_inputs:
        unit.plan.run(unit.model, state)
    energy = sum(float(output.double().square().sum()) for output in seen)
    assert float((rows @ moments.quantized * rows).sum()) == pytest.approx(energy, rel=1e-4)
    assert float(moments.shift.abs().max()) == 0


@torch.no_grad()
def test_float_inputs_do_not_know_of_biases_corrected_before(make_unit):
    unit = make_unit(PATH)
    RoundToNearest(rounds_weights=False).run_(unit)
    site = unit.sites[1][0]  # lin2, after lin1
    originals = float_layers(unit)
    before = [inputs for inputs, _ in input_pairs(unit, site, originals)]
    slots.layer(unit.model, unit.sites[0][0]).layer.bias += 3.0
    for old, (inputs, quantized) in zip(before, input_pairs(unit, site, originals), strict=True):
        assert torch.equal(old, inputs)
        assert float((quantized - inputs).mean()) > 1


DEGENERATE = {
    "nothing": torch.zeros(50, 6),
    "one channel": torch.eye(6)[2].repeat(50, 1),
    "a constant": torch.tensor([3.0, -1, 0, 7, 1e-4, 2]).repeat(50, 1),
    "one channel that outweighs all": 1e6 * torch.eye(6)[1] + torch.ones(50, 6),
}
"""Inputs without variance, or with that of one channel only."""


@pytest.mark.parametrize("inputs", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("method", ["gptq", "gptaq", "erq"])
def test_inputs_without_variance_give_finite_weights_on_the_grid(inputs, method):
    weights, inputs = draw(8, 6, seed=3).float(), inputs.double()
    grid, moments = grid_of(weights), moments_of(inputs, torch.round(inputs))
    if method == "erq":
        corrected, added = correct_inputs(weights, moments, 0.01, True)
        assert bool(added.isfinite().all())
        assert float((corrected - weights).abs().max()) < 1.0
        rows = round_by_halves(corrected, grid, moments.quantized, 0.01, 100)
    else:
        share = 1.0 if method == "gptaq" else 0.0
        rows = feed_back(weights, grid, moments, 1e-9, share, True)
    assert bool(rows.isfinite().all())
    assert torch.equal(grid(rows), rows)


def test_a_gram_that_rounding_left_indefinite_is_damped_more():
    gram = torch.tensor([[1.0, 1.0], [1.0, 1.0 - 1e-6]], dtype=torch.float64)
    with pytest.raises(RuntimeError):
        torch.linalg.cholesky(gram + 1e-9 * torch.eye(2))
    factor = inverse_factor(gram, 1e-9)
    damped = torch.linalg.inv(factor.mT @ factor)
    torch.testing.assert_close(damped, gram, atol=1e-3, rtol=0)
