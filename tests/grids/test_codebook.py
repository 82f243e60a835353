"""Codebooks, and the search for the best one."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carsam.grids.best_codebook import best_codebook, best_entries, uniform_error
from carsam.grids.codebook import CodebookGrid
from carsam.grids.histogram import Histogram
from carsam.grids.observers import Statistics, activation_grid

SEED = st.integers(0, 2**32 - 1)


def statistics_of(values):
    low, high = float(values.min()), float(values.max())
    histogram = Histogram()
    histogram.add(values, low, high)
    return Statistics([low], [high], histogram)


def heavy_tailed(seed=0):
    """Of both signs, the larger ones positive, as after a GELU."""
    torch.manual_seed(seed)
    return torch.nn.functional.gelu(torch.distributions.StudentT(3.0).sample((100_000,)))


def test_values_go_to_the_nearest_entry_by_way_of_the_fine_grid():
    grid = CodebookGrid(torch.tensor([0.5]), torch.tensor([10]), torch.tensor([0, 10, 14, 255]), 2)
    values = torch.tensor([-9.0, -2.6, -2.2, 0.9, 1.4, 62.0, 67.0, 500.0])
    assert grid.codes(values).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert grid(values).tolist() == [-5, -5, 0, 0, 2, 2, 122.5, 122.5]


@pytest.mark.parametrize("count", [3, 5])
def test_other_numbers_of_entries_are_refused(count):
    with pytest.raises(ValueError, match=f"{count} entries in a codebook of 2 bits"):
        CodebookGrid(torch.ones(1), torch.zeros(1), torch.arange(count), 2)


def test_training_moves_values_between_the_outer_entries_only():
    grid = CodebookGrid(torch.ones(1), torch.tensor([5]), torch.tensor([2, 5, 9, 20]), 2)
    values = torch.tensor([-4.0, -2.0, 1.2, 14.0, 16.0], requires_grad=True)
    grid.soft(values, torch.ones(1)).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 1, 0]


def errors_of(entries, moments):
    """Of each cell's values if they go to the nearest entry."""
    number, total, squares = moments
    nearest = entries[(torch.arange(len(number))[:, None] - entries).abs().argmin(1)]
    return float((squares - 2 * nearest * total + nearest**2 * number).sum())


@given(SEED, st.integers(5, 9), st.integers(1, 4))
def test_no_other_entries_are_better(seed, cells, count):
    generator = torch.Generator().manual_seed(seed)
    number = torch.randint(0, 4, (cells,), generator=generator).double()
    zero = int(torch.randint(cells, (1,), generator=generator))
    places = torch.arange(cells).double()
    moments = torch.stack([number, number * places, number * places**2])
    entries, error = best_entries(moments, zero, count)
    assert len(entries) == count
    assert zero in entries
    assert errors_of(entries, moments) == pytest.approx(error, abs=1e-3)
    others = [set(chosen) | {zero} for chosen in combinations(range(cells), count - 1)]
    least = min(errors_of(torch.tensor(sorted(chosen)), moments) for chosen in others)
    assert error == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_error_is_what_the_values_get_and_far_below_the_uniform_grids(bits):
    values = heavy_tailed()
    statistics = statistics_of(values)
    grid, error = best_codebook(statistics, bits, 8)
    measured = float((grid(values) - values).square().mean())
    assert measured == pytest.approx(error, rel=0.03)
    uniform = activation_grid(statistics, "mse", bits, torch.device("cpu"))
    assert 1.3 * error < uniform_error(statistics, uniform)
    assert float(uniform_error(statistics, grid)) == pytest.approx(error, rel=0.01)


def test_of_normal_values_it_is_the_lloyd_max_quantizer():
    """Max, "Quantizing for minimum distortion" (1960), table I: 16 levels, error 0.009497."""
    values = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(1_000_000) + 0.5) / 1_000_000)
    grid, error = best_codebook(statistics_of(values), 4, 8)
    assert error == pytest.approx(0.009497, rel=0.02)
    levels = grid.values(torch.arange(16))
    assert float(levels[-1]) == pytest.approx(2.733, abs=0.05)
    assert float(levels.abs().min()) == 0  # which Max's levels lack: hence the tolerances


def test_entries_of_a_coarser_fine_grid_are_smaller_and_worse():
    statistics = statistics_of(heavy_tailed())
    found = {bits: best_codebook(statistics, 4, bits) for bits in (6, 7, 8)}
    assert [int(grid.entries.max()) for grid, _ in found.values()] == [63, 127, 255]
    errors = [error for _, error in found.values()]
    assert errors == sorted(errors, reverse=True)


def test_values_that_are_all_zero_stay_zero():
    grid, error = best_codebook(statistics_of(torch.zeros(9)), 4, 8)
    assert grid(torch.zeros(1)).tolist() == [0]
    assert error < 1e-6


def test_the_range_closes_in_on_what_is_worth_its_codes():
    """A few values far out: the fine grid leaves them, for more codes where the others are."""
    torch.manual_seed(0)
    values = torch.cat([torch.randn(100_000), torch.tensor([-100.0, 100.0])])
    grid, _ = best_codebook(statistics_of(values), 4, 8)
    assert 255 * float(grid.scale) < 180
