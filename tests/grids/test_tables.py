import pytest
import torch

from carsam.grids.tables import Log1pGrid, LogGrid, LogUniformGrid, TwinUniformGrid


def table(grid):
    return grid.table(grid.scale).tolist()


def test_log2_halves_from_the_scale_down_to_0():
    assert table(LogGrid(torch.tensor([0.8]), 1, 2)) == pytest.approx([0.0, 0.2, 0.4, 0.8])


def test_granularity_2_takes_two_steps_per_factor_of_2():
    assert table(LogGrid(torch.tensor([1.0]), 2, 2)) == pytest.approx([0.0, 0.5, 0.5**0.5, 1.0])


def test_probabilities_too_small_become_0():
    grid = LogGrid(torch.tensor([1.0]), 1, 3)
    assert grid(torch.tensor([2.0**-9, 2.0**-6])).tolist() == [0.0, 2.0**-6]


def test_log1p_is_uniform_in_the_logarithm():
    values = Log1pGrid(torch.tensor([0.5]), torch.tensor([8.0]), 2)
    assert table(values) == pytest.approx([0.0, 0.5 * (9 ** (1 / 3) - 1) / 8, *table(values)[2:]])
    assert table(values)[3] == pytest.approx(0.5)


def test_twin_grids_share_0():
    assert table(TwinUniformGrid(torch.tensor([0.5]), 2, 0, 2)) == [0.0, 0.5, 2.0]
    assert table(TwinUniformGrid(torch.tensor([0.5]), 2, 1, 3)) == [-1.5, -1, -0.5, 0, 2, 4, 6]


def test_log_uniform_is_logarithmic_up_to_the_threshold():
    grid = LogUniformGrid(torch.tensor([1.0, 0.5]), torch.tensor([-0.25]), 4, 3)
    assert table(grid) == [-0.25, 0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75]


def test_large_values_stay_on_the_uniform_part():
    """The released quantizer sends them back to the threshold."""
    grid = LogUniformGrid(torch.tensor([1.0, 1.0]), torch.tensor([0.0]), 4, 4)
    values = torch.tensor([4.5, 7.5, 12.0])
    assert ((grid(values) - values).abs() <= 0.5).all()


def test_the_scales_gradient_is_that_of_the_rounded_value():
    grid = LogGrid(torch.tensor([0.8]), 1, 3)
    factor = torch.ones(1, requires_grad=True)
    values = torch.tensor([0.21, 0.9])
    grid.soft(values, factor).sum().backward()
    assert float(factor.grad) == pytest.approx(0.2 + 0.8)
