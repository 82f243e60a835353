"""A histogram taken in one pass counts every value in the bin that it belongs to."""

import math

import pytest
import torch

from carsam.grids.histogram import MOST_BINS, Histogram

IMAGES = {
    "growing": [torch.linspace(-1, 1, 999), torch.linspace(-900, 3000, 5001), torch.tensor([0.1])],
    "shrinking": [torch.linspace(-5, 9, 4001), torch.linspace(1, 1.001, 77)],
    "far from zero": [1000 + torch.linspace(0, 0.05, 501), 1000.3 + torch.linspace(0, 1, 300)],
    "one value": [torch.full((7,), 0.3), torch.full((2,), 0.3)],
    "zeros": [torch.zeros(5)],
    "tiny": [torch.linspace(0, 1e-42, 10)],
    "huge": [torch.tensor([-1e30, 1e30, 1.0])],
    "normal": [torch.randn(10_000, generator=torch.Generator().manual_seed(s)) for s in range(3)],
}


def counted(images):
    histogram = Histogram()
    for values in images:
        histogram.add(values, float(values.min()), float(values.max()))
    return histogram


@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_bins_hold_the_values_between_their_edges(images):
    histogram = counted(images)
    values = torch.cat(images).double()
    places = torch.floor(values / 2.0**histogram.exponent).long() - histogram.first
    expected = torch.bincount(places, minlength=len(histogram.counts))
    assert histogram.counts.sum() == len(values)
    # float32 may move a value that lies at an edge to the neighbouring bin
    assert (histogram.counts.cumsum(0) - expected.cumsum(0)).abs().max() <= 1 + len(values) / 1000


@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_there_are_neither_too_many_bins_nor_too_few(images):
    histogram = counted(images)
    values = torch.cat(images).double()
    assert len(histogram.counts) <= MOST_BINS
    extent = float(values.max() - values.min())
    least = 2.0 ** (math.frexp(float(values.abs().max()))[1] - 24)  # float32's resolution there
    assert 2.0**histogram.exponent <= max(extent / (MOST_BINS / 2 - 1), 2 * least, 2.0**-148)


def test_the_order_of_images_does_not_matter():
    images = [torch.arange(-8, 9) / 8, torch.arange(-900, 3000) / 2, torch.tensor([0.25])]
    first, second = counted(images), counted(images[::-1])
    assert (first.exponent, first.first) == (second.exponent, second.first)
    assert torch.equal(first.counts, second.counts)
