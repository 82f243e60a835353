import pytest
import torch

from carsam.grids.base import UniformGrid
from carsam.grids.observers import (
    ACTIVATION_OBSERVERS,
    WEIGHT_OBSERVERS,
    Observer,
    averaged_minmax,
    minmax,
    mse,
    percentile,
)


def watch(*images):
    observer = Observer("site", "input", counts=True)
    for image in images:
        observer(image)
        observer.end_image()
    return observer.statistics


def grid_error(values, low, high, bits):
    grid = UniformGrid.from_range(torch.tensor([low]), torch.tensor([high]), bits)
    return float((grid(values) - values).square().sum())


def test_the_observer_passes_values_on():
    values = torch.randn(5)
    assert Observer("site", "input")(values) is values


def test_minmax_spans_all_images():
    statistics = watch(torch.tensor([-1.0, 2.0]), torch.tensor([-3.0, 1.0]))
    assert minmax(statistics, 4) == (-3.0, 2.0)


def test_averaged_minmax_averages_images_not_pieces():
    observer = Observer("site", "input")
    for image in ([[-1.0, 0.0], [0.0, 2.0]], [[-3.0, 4.0]]):  # the first comes in two pieces
        for piece in image:
            observer(torch.tensor(piece))
        observer.end_image()
    assert averaged_minmax(observer.statistics, 4) == (-2.0, 3.0)


def test_percentile_leaves_outliers_out():
    values = torch.cat([torch.linspace(-1, 1, 100_000), torch.tensor([100.0])])
    low, high = percentile(watch(values), 4)
    assert -1.1 < low < -0.9
    assert 0.9 < high < 1.1


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mse_beats_every_other_range(bits):
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) ** 3
    statistics = watch(values)
    best = grid_error(values, *mse(statistics, bits), bits)
    for name in ("minmax", "averaged-minmax", "percentile"):
        other = grid_error(values, *ACTIVATION_OBSERVERS[name](statistics, bits), bits)
        assert best <= 1.001 * other


def test_mse_is_close_to_an_exhaustive_search():
    values = torch.randn(5_000, generator=torch.Generator().manual_seed(0)).abs()
    low, high = mse(watch(values), 4)
    errors = [grid_error(values, 0.0, h, 4) for h in torch.linspace(0.5, 4, 400).tolist()]
    assert low == 0.0
    assert grid_error(values, low, high, 4) <= 1.02 * min(errors)


def test_counts_are_exact_beyond_float32_integers():
    values = torch.zeros((1 << 24) + 5)
    statistics = watch(values)
    assert int(statistics.histogram.counts.sum()) == len(values)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(bad):
    with pytest.raises(ValueError, match="site: input holds NaN or infinity"):
        Observer("site", "input")(torch.tensor([0.0, bad]))


def test_weight_minmax_is_per_row():
    low, high = WEIGHT_OBSERVERS["minmax"](torch.tensor([[-1.0, 2.0], [0.5, 3.0]]), 4)
    assert low.tolist() == [[-1.0], [0.5]]
    assert high.tolist() == [[2.0], [3.0]]


def test_weight_mse_never_loses_to_minmax():
    rows = torch.randn(50, 300, generator=torch.Generator().manual_seed(0)) ** 3
    errors = {}
    for name, observe in WEIGHT_OBSERVERS.items():
        grid = UniformGrid.from_range(*observe(rows, 4), 4)
        errors[name] = (grid(rows) - rows).square().sum(1)
    assert (errors["mse"] <= errors["minmax"]).all()
    assert errors["mse"].sum() < 0.95 * errors["minmax"].sum()
