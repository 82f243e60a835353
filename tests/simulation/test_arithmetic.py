"""torch and numpy give the same bits."""

import numpy as np
import pytest
import torch

from carsam.grids.base import UniformGrid
from carsam.runtime import functions, reference
from carsam.runtime.grids import CodeGrid
from carsam.simulation import arithmetic

RANDOM = np.random.default_rng(0)
VALUES = (4 * RANDOM.normal(size=(300, 64))).astype(np.float32)


def test_gelu() -> None:
    found = arithmetic.gelu(torch.from_numpy(VALUES)).numpy()
    np.testing.assert_array_equal(found, functions.gelu(VALUES))


def test_exp2() -> None:
    exponents = np.concatenate([-20 * np.abs(VALUES).ravel(), np.float32([0, -0.5, -1000])])
    expected = functions.exp2(exponents)
    np.testing.assert_array_equal(arithmetic.exp2_(torch.from_numpy(exponents)).numpy(), expected)


@pytest.mark.parametrize("length", [1, 16, 20, 64])
def test_lane_sum(length) -> None:
    values = VALUES[:, :length]
    found = arithmetic.lane_sum(torch.from_numpy(values)[:, None]).numpy()[:, 0]
    np.testing.assert_array_equal(found, functions.lane_sum(values))


def test_lines_begin_at_lane_0() -> None:
    lines = VALUES[:, :42].reshape(-1, 3, 14)
    padded = np.pad(lines, ((0, 0), (0, 0), (0, 2))).reshape(-1, 48)
    found = arithmetic.lane_sum(torch.from_numpy(lines.copy())).numpy()[:, 0]
    np.testing.assert_array_equal(found, functions.lane_sum(padded))


@pytest.mark.parametrize("columns", [16, 60, 64])
def test_layer_norm(columns) -> None:
    values, weight, bias = VALUES[:, :columns], VALUES[0, :columns], VALUES[1, :columns]
    tensors = map(torch.tensor, (values, weight, bias))
    found = arithmetic.layer_norm(*tensors, 1e-6).numpy()
    np.testing.assert_array_equal(found, reference.layer_norm(values, weight, bias, 1e-6))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_uniform_codes(bits) -> None:
    grid = UniformGrid.from_range(torch.tensor([-3.0]), torch.tensor([5.0]), bits)
    same = CodeGrid(np.float32(grid.scale.item()), int(grid.zero_point.item()), bits)
    halves = (np.arange(-20, 20) + 0.5).astype(np.float32)[:, None] * same.scale
    for values in (VALUES, halves):
        found = grid.codes(torch.from_numpy(values)).numpy()
        np.testing.assert_array_equal(found, reference.quantize(values, same))


def test_integers_are_summed_in_a_type_that_holds_them() -> None:
    assert arithmetic.exact_type(2**24 - 1) is torch.float32
    assert arithmetic.exact_type(2**24) is torch.float64
