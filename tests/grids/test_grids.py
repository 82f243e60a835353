import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carsam.grids.base import UniformGrid

finite = st.floats(-1e4, 1e4, width=32)


@given(st.lists(finite, min_size=1, max_size=40), st.integers(2, 8))
def test_codes_of_values_are_the_codes(values, bits):
    tensor = torch.tensor(values)
    grid = UniformGrid.from_range(tensor.min()[None], tensor.max()[None], bits)
    codes = torch.arange(2.0**bits)
    assert torch.equal(grid.codes(grid.values(codes)), codes)


@given(st.lists(finite, min_size=1, max_size=40), st.integers(2, 8))
def test_quantizing_twice_changes_nothing(values, bits):
    tensor = torch.tensor(values)
    grid = UniformGrid.from_range(tensor.min()[None], tensor.max()[None], bits)
    once = grid(tensor)
    assert torch.equal(grid(once), once)


@given(st.lists(finite, min_size=1, max_size=40), st.integers(2, 8))
def test_inside_the_range_no_error_exceeds_half_a_step(values, bits):
    tensor = torch.tensor(values)
    grid = UniformGrid.from_range(tensor.min()[None], tensor.max()[None], bits)
    # Rounding the zero point moves the grid by up to half a step.
    assert (grid(tensor) - tensor).abs().max() <= 1.001 * grid.scale


def test_zero_is_exact():
    grid = UniformGrid.from_range(torch.tensor([-0.3]), torch.tensor([1.7]), 4)
    assert grid(torch.zeros(1)) == 0


def test_an_empty_range_keeps_zeros():
    grid = UniformGrid.from_range(torch.zeros(1), torch.zeros(1), 4)
    assert torch.equal(grid(torch.zeros(3)), torch.zeros(3))


def test_ties_round_to_even():
    grid = UniformGrid(torch.tensor([1.0]), torch.tensor([0.0]), 4)
    assert grid.codes(torch.tensor([0.5, 1.5, 2.5])).tolist() == [0, 2, 2]


def test_one_grid_per_row():
    rows = torch.tensor([[-1.0, 0.0, 1.0], [0.0, 5.0, 10.0]])
    grid = UniformGrid.from_range(rows.amin(1, True), rows.amax(1, True), 2)
    assert grid.scale.shape == (2, 1)
    assert grid(rows)[1, 2] == pytest.approx(10.0)


def test_a_scale_of_zero_is_refused():
    with pytest.raises(ValueError, match="not positive and finite"):
        UniformGrid(torch.zeros(1), torch.zeros(1), 4)
