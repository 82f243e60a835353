"""The numpy operators against their formulas in double precision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carsam.runtime.grids import CodeGrid, Codes, ColumnGrids
from carsam.runtime.matrices import PackedMatrix, integer_product
from carsam.runtime.reference import layer_norm, linear, quantize

BITS = st.integers(1, 8)


def random_codes(random: np.random.Generator, rows: int, columns: int, bits: int) -> np.ndarray:
    return random.integers(0, 1 << bits, (rows, columns), dtype=np.uint8)


def random_matrix(random: np.random.Generator, rows: int, columns: int, bits: int) -> PackedMatrix:
    return PackedMatrix.from_codes(
        random_codes(random, rows, columns, bits),
        bits,
        random.uniform(0.01, 0.1, rows).astype(np.float32),
        random.integers(0, 1 << bits, rows, dtype=np.uint8),
    )


def random_grid(random: np.random.Generator, bits: int) -> CodeGrid:
    return CodeGrid(np.float32(random.uniform(0.01, 0.1)), int(random.integers(0, 1 << bits)), bits)


@given(st.integers(0, 2**32 - 1), BITS, BITS, st.integers(1, 9), st.integers(1, 70))
def test_linear_equals_the_product_of_values(
    seed: int, code_bits: int, weight_bits: int, rows: int, columns: int
) -> None:
    random = np.random.default_rng(seed)
    matrix = random_matrix(random, 5, columns, weight_bits)
    grid = random_grid(random, code_bits)
    codes = Codes(random_codes(random, rows, columns, code_bits), grid)
    expected = codes.values().astype(np.float64) @ matrix.values().astype(np.float64).T
    np.testing.assert_allclose(linear(codes, matrix), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("columns", [64, 5120])
def test_integer_product_is_exact_at_the_extremes(columns: int) -> None:
    left = np.full((3, columns), 255, np.uint8)
    right = np.full((2, columns), -128, np.int8)
    expected = left.astype(np.int64) @ right.T.astype(np.int64)
    np.testing.assert_array_equal(integer_product(left, right), expected)


def test_linear_applies_bias_activation_residual_and_grid_in_this_order() -> None:
    random = np.random.default_rng(0)
    matrix, grid = random_matrix(random, 5, 12, 4), random_grid(random, 4)
    codes = Codes(random_codes(random, 3, 12, 4), grid)
    bias, residual = random.normal(size=5), random.normal(size=(3, 5))
    bias, residual = bias.astype(np.float32), residual.astype(np.float32)
    values = np.maximum(linear(codes, matrix) + bias, 0) + residual
    found = linear(codes, matrix, bias, "relu", residual, grid)
    np.testing.assert_array_equal(found, quantize(values, grid))


def test_quantize_rounds_half_to_even() -> None:
    grid = CodeGrid(np.float32(1), 2, 4)
    values = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    np.testing.assert_array_equal(quantize(values, grid), [0, 0, 2, 2, 4, 4])


def test_quantize_clamps_huge_values() -> None:
    grid = CodeGrid(np.float32(1e-3), 7, 4)
    values = np.array([-1e30, -np.inf, np.inf, 1e30], np.float32)
    np.testing.assert_array_equal(quantize(values, grid), [0, 0, 15, 15])


def test_column_grids_quantize_each_tensor_on_its_own() -> None:
    random = np.random.default_rng(0)
    parts = [random_grid(random, bits) for bits in (4, 8, 2)]
    values = random.normal(size=(6, 12)).astype(np.float32)
    grids = ColumnGrids(tuple((grid, 4) for grid in parts))
    codes = grids.split(quantize(values, grids))
    for index, (grid, part) in enumerate(zip(parts, codes, strict=True)):
        assert part.grid == grid
        expected = quantize(values[:, 4 * index : 4 * index + 4], grid)
        np.testing.assert_array_equal(part.array, expected)


@pytest.mark.parametrize("columns", [5, 16, 100])
def test_layer_norm_equals_torch(columns: int) -> None:
    import torch

    random = np.random.default_rng(0)
    values = random.normal(3, 2, (7, columns)).astype(np.float32)
    weight, bias = random.normal(size=(2, columns)).astype(np.float32)
    tensors = [torch.from_numpy(array) for array in (values, weight, bias)]
    expected = torch.nn.functional.layer_norm(tensors[0], (columns,), *tensors[1:], eps=1e-6)
    found = layer_norm(values, weight, bias, 1e-6)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6)


def test_layer_norm_to_codes_equals_norm_then_quantize() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(7, 20)).astype(np.float32)
    weight, bias = random.normal(size=(2, 20)).astype(np.float32)
    grid = CodeGrid(np.float32(0.3), 8, 4)
    expected = quantize(layer_norm(values, weight, bias, 1e-6), grid)
    found = layer_norm(values, weight, bias, 1e-6, output=grid)
    np.testing.assert_array_equal(found, expected)


def test_quantize_adds_a_repeated_addend_first() -> None:
    random = np.random.default_rng(0)
    values, addend = random.normal(size=(6, 5)), random.normal(size=(3, 5))
    grid = CodeGrid(np.float32(0.3), 8, 4)
    found = quantize(values, grid, addend)
    np.testing.assert_array_equal(found[3:], quantize(values[3:] + addend, grid))
    left = quantize(values, grid, addend, undone=True)
    np.testing.assert_array_equal(left[3:], quantize(values[3:] + addend - addend, grid))
