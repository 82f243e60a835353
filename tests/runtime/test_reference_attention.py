"""Attention in codes against its formula in double precision."""

import numpy as np
import pytest
from scipy.special import softmax

from carsam.runtime.geometry import RelativePositions, TokenMap
from carsam.runtime.grids import CodeGrid, Codes
from carsam.runtime.reference import quantize
from carsam.runtime.reference_attention import attention
from carsam.runtime.softmax_grids import RowMaximumCodes, depths
from carsam.runtime.tables import CodeTable

HEADS, HEAD_DIM = 2, 6


def random_operand(seed: int, rows: int, bits: int | None) -> np.ndarray | Codes:
    random = np.random.default_rng(seed)
    if bits is None:
        return random.normal(size=(rows, HEADS * HEAD_DIM)).astype(np.float32)
    codes = random.integers(0, 1 << bits, (rows, HEADS * HEAD_DIM), dtype=np.uint8)
    return Codes(
        codes, CodeGrid(np.float32(4 / (1 << bits)), int(random.integers(1 << bits)), bits)
    )


def values(operand: np.ndarray | Codes) -> np.ndarray:
    """(heads, rows, head_dim) float64."""
    numbers = operand.values() if isinstance(operand, Codes) else operand
    return numbers.astype(np.float64).reshape(-1, HEADS, HEAD_DIM).transpose(1, 0, 2)


def merged(heads: np.ndarray) -> np.ndarray:
    return heads.transpose(1, 0, 2).reshape(-1, HEADS * HEAD_DIM)


@pytest.mark.parametrize("bits", [(4, 4, 4), (8, 8, 8), (None, 4, 4), (4, None, 8), (4, 4, None)])
def test_equals_softmax_attention(bits: tuple[int | None, ...]) -> None:
    query, key, value = (
        random_operand(seed, rows, b)
        for seed, rows, b in zip(range(3), (5, 9, 9), bits, strict=True)
    )
    q, k, v = (values(operand) for operand in (query, key, value))
    expected = merged(softmax(0.4 * q @ k.swapaxes(1, 2), axis=-1) @ v)
    tokens = TokenMap.of_groups(1, (1, 5), (1, 9))
    found = attention(query, key, value, tokens, HEADS, 0.4, None)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_quantizes_the_probabilities() -> None:
    query, key, value = (random_operand(seed, 9, 4) for seed in range(3))
    q, k, v = (values(operand) for operand in (query, key, value))
    probabilities = softmax(0.4 * q @ k.swapaxes(1, 2), axis=-1).astype(np.float32)
    grid = CodeGrid(np.float32(0.05), 1, 4)
    coarse = Codes(quantize(probabilities, grid), grid).values()
    tokens = TokenMap.of_groups(1, (1, 9), (1, 9))
    found = attention(query, key, value, tokens, HEADS, 0.4, grid)
    np.testing.assert_allclose(found, merged(coarse @ v), atol=1e-5)


@pytest.mark.parametrize("value_bits", [4, None])
def test_normalises_numerators_after_the_product(value_bits: int | None) -> None:
    query, key = (random_operand(seed, 9, 4) for seed in range(2))
    value = random_operand(2, 9, value_bits)
    q, k, v = (values(operand) for operand in (query, key, value))
    steps = np.rint(32 * np.log2(np.e) * 0.4 * q @ k.swapaxes(1, 2))
    numerator = np.array([0, 20, 90, 255], np.uint8)
    shares = 255 * np.exp2((steps - steps.max(-1, keepdims=True)) / 32) / 0.8
    numbers = numerator[np.digitize(np.minimum(np.rint(shares), 255), [10.5, 55.5, 173])]
    expected = merged(numbers @ v / numbers.sum(-1, keepdims=True))
    tokens = TokenMap.of_groups(1, (1, 9), (1, 9))
    grid = RowMaximumCodes(np.float32(0.8), numerator)
    found = attention(query, key, value, tokens, HEADS, 0.4, grid)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("value_bits", [4, None])
def test_rounds_probabilities_to_listed_values(value_bits: int | None) -> None:
    query, key = (random_operand(seed, 9, 4) for seed in range(2))
    value = random_operand(2, 9, value_bits)
    q, k, v = (values(operand) for operand in (query, key, value))
    listed = np.array([0, 0.125, 0.25, 0.5])
    probabilities = softmax(0.4 * q @ k.swapaxes(1, 2), axis=-1)
    expected = merged(listed[np.digitize(probabilities, [0.0625, 0.1875, 0.375])] @ v)
    tokens = TokenMap.of_groups(1, (1, 9), (1, 9))
    grid = CodeTable(listed.astype(np.float32), 2)
    found = attention(query, key, value, tokens, HEADS, 0.4, grid)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_quantizes_the_result() -> None:
    query, key, value = (random_operand(seed, 9, 4) for seed in range(3))
    tokens, grid = TokenMap.of_groups(1, (1, 9), (1, 9)), CodeGrid(np.float32(0.1), 8, 4)
    found = attention(query, key, value, tokens, HEADS, 0.4, None, None, grid)
    expected = quantize(attention(query, key, value, tokens, HEADS, 0.4, None), grid)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [3, 17])
def test_adds_decomposed_relative_positions(size: int) -> None:
    query, key, value = (random_operand(seed, size * size, 4) for seed in range(3))
    q, k, v = (values(operand) for operand in (query, key, value))
    tables = np.random.default_rng(5).normal(size=(2, 2 * size - 1, HEAD_DIM))
    distance = np.arange(size)[:, None] - np.arange(size) + size - 1
    image = q.reshape(HEADS, size, size, HEAD_DIM)
    by_row = np.einsum("nhwc,hkc->nhwk", image, tables[0][distance])
    by_column = np.einsum("nhwc,wkc->nhwk", image, tables[1][distance])
    bias = by_row[..., :, None] + by_column[..., None, :]
    scores = 0.4 * q @ k.swapaxes(1, 2) + bias.reshape(HEADS, size**2, size**2)
    expected = merged(softmax(scores, axis=-1) @ v)
    relative = RelativePositions.from_tables(*tables.astype(np.float32))
    tokens = TokenMap.of_windows(size, size)
    found = attention(query, key, value, tokens, HEADS, 0.4, None, relative)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_windows_pad_with_one_row_and_skip_its_queries() -> None:
    tokens = TokenMap.of_windows(5, 3)
    assert tokens.query_rows.shape == (4, 9)
    assert sorted(tokens.query_rows[tokens.query_rows >= 0]) == list(range(25))
    np.testing.assert_array_equal(tokens.key_rows == 25, tokens.query_rows == -1)


def test_groups_may_share_their_keys() -> None:
    query, key, value = (
        random_operand(s, rows, 4) for s, rows in zip(range(3), (8, 5, 5), strict=True)
    )
    shared = attention(query, key, value, TokenMap.of_groups(2, (2, 4), (1, 5)), HEADS, 0.4, None)
    tokens = TokenMap.of_groups(1, (1, 4), (1, 5))
    second = Codes(query.array[4:], query.grid)
    alone = attention(second, key, value, tokens, HEADS, 0.4, None)
    np.testing.assert_array_equal(shared[4:], alone)


def test_a_numerator_depends_on_the_steps_below_the_largest_logit() -> None:
    grid = RowMaximumCodes(np.float32(1), np.arange(256, dtype=np.uint8))
    logits = np.array([[3.0, 2.99, 2.98, 2.0, -4.0, -4.9, -50.0, -3000.0]], np.float32)
    assert depths(logits).tolist() == [[0, 0, 1, 32, 224, 253, 255, 255]]
    assert grid.by_depth[[0, 1, 32, 224, 254, 255]].tolist() == [255, 250, 128, 2, 1, 0]
