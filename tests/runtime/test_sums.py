"""How many keys and channels attention takes: as many as its sums hold, and not one more."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from carsam.errors import UnsupportedError
from carsam.runtime import reference_attention
from carsam.runtime.geometry import TokenMap
from carsam.runtime.grids import CodeGrid, Codes
from carsam.runtime.softmax_grids import RowMaximumCodes, SoftmaxGrid
from carsam.runtime.sums import LARGEST_SUM, check_attention, most_products
from carsam.runtime.tables import CodeTable

_kernels = pytest.importorskip("carsam.runtime._kernels")
native = pytest.importorskip("carsam.runtime.native")

BYTE = CodeGrid(np.float32(0.1), 0, 8)
MOST = 33025
"""Products of 255 and 255 that stay below 2**31."""

PARTS = 2 * MOST + 1
"""Keys whose products with values do not fit 32 bits, however they are added up."""

MOST_KEYS = 8_421_504
"""Codes of 255 that stay below 2**31."""

HIGHEST: dict[str, SoftmaxGrid] = {
    "uniform": CodeGrid(np.float32(1 / (255 * 80_000)), 0, 8),
    "row-maximum": RowMaximumCodes(np.float32(1), np.arange(256, dtype=np.uint8)),
}
"""Grids on which equal probabilities of so many keys all have the highest code."""


def full(rows: int, columns: int, grid: CodeGrid = BYTE) -> Codes:
    return Codes(np.full((rows, columns), grid.maximum, np.uint8), grid)


def arguments(keys: int, probabilities: SoftmaxGrid, value: CodeGrid = BYTE) -> tuple[Any, ...]:
    """Two queries and so many keys, all of them the same, with values of the highest code."""
    query, key = full(2, 1), full(keys, 1)
    tokens = TokenMap.of_groups(1, (1, 2), (1, keys))
    return query, key, full(keys, 1, value), tokens, 1, 1e-3, probabilities


@pytest.mark.parametrize("left", range(1, 9))
@pytest.mark.parametrize("right", range(1, 9))
def test_the_most_products_fit_and_one_more_does_not(left: int, right: int) -> None:
    largest = ((1 << left) - 1) * ((1 << right) - 1)
    assert most_products(left, right) * largest <= LARGEST_SUM
    assert (most_products(left, right) + 1) * largest > LARGEST_SUM


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("name", HIGHEST)
@pytest.mark.parametrize("zero", [0, 255])
@pytest.mark.parametrize("keys", [MOST, PARTS])
def test_any_number_of_keys_is_added_up_exactly(name: str, zero: int, keys: int) -> None:
    grid = CodeGrid(np.float32(0.5), zero, 8)
    value = Codes(np.full((keys, 1), 255 - zero, np.uint8), grid)
    query, key, _, *others = arguments(keys, HIGHEST[name])
    found = native.attention(query, key, value, *others)
    expected = reference_attention.attention(query, key, value, *others)
    np.testing.assert_array_equal(found, expected)
    weight = 1 if name == "row-maximum" else 255 * keys * float(HIGHEST[name].scale)
    signed = 127.5 if zero == 0 else -127.5
    np.testing.assert_allclose(found, signed * weight, rtol=1e-6)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("name", HIGHEST)
@pytest.mark.parametrize("head_dim", [5, 40])
@pytest.mark.parametrize("on_grid", [False, True])
def test_parts_of_random_codes_are_added_up_exactly(
    name: str, head_dim: int, on_grid: bool
) -> None:
    random = np.random.default_rng(head_dim)
    grids = [CodeGrid(np.float32(0.1), zero, 8) for zero in (120, 130, 77)]
    shapes = ((15, 2 * head_dim), *[(PARTS, 2 * head_dim)] * 2)
    operands = [
        Codes(random.integers(0, 256, shape, np.uint8), grid)
        for shape, grid in zip(shapes, grids, strict=True)
    ]
    tokens = TokenMap.of_groups(1, (1, 15), (1, PARTS))
    # Of few logits each many are high, so that the sums are large; some steps hold only zeros.
    scaling = 2e-5 / head_dim
    output = CodeGrid(np.float32(0.05), 128, 8) if on_grid else None
    others = tokens, 2, scaling, HIGHEST[name], None, output
    np.testing.assert_array_equal(
        native.attention(*operands, *others), reference_attention.attention(*operands, *others)
    )


ENGINES: dict[str, Callable] = {
    "native": native.attention,
    "reference": reference_attention.attention,
}


@pytest.mark.parametrize("name", HIGHEST)
def test_more_keys_than_sums_of_codes_hold_are_refused(name: str) -> None:
    check_attention(BYTE, BYTE, HIGHEST[name], BYTE, 1, MOST_KEYS)
    with pytest.raises(UnsupportedError, match=f"{MOST_KEYS + 1} keys.*at most {MOST_KEYS}"):
        check_attention(BYTE, BYTE, HIGHEST[name], BYTE, 1, MOST_KEYS + 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_probabilities_with_a_zero_point_are_not_added_up_in_parts(engine: str) -> None:
    grid = CodeGrid(np.float32(0.004), 3, 8)
    with pytest.raises(UnsupportedError, match=f"{MOST + 1} keys.*at most {MOST}"):
        ENGINES[engine](*arguments(MOST + 1, grid))


@pytest.mark.parametrize("engine", ENGINES)
def test_fewer_bits_take_more_keys(engine: str) -> None:
    value, keys = CodeGrid(np.float32(0.1), 0, 4), 2 * MOST
    found = ENGINES[engine](*arguments(keys, HIGHEST["row-maximum"], value))
    np.testing.assert_allclose(found, 1.5, rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_listed_probabilities_take_more_keys(engine: str) -> None:
    listed = CodeTable(np.array([0, 1 / (2 * MOST)], np.float32), 1)
    found = ENGINES[engine](*arguments(2 * MOST, listed))
    np.testing.assert_allclose(found, 25.5, rtol=1e-6)


@pytest.mark.usefixtures("instruction_set")
def test_as_many_channels_of_a_head_as_fit_are_added_up_exactly() -> None:
    tokens = TokenMap.of_groups(1, (1, 1), (1, 2))
    key = full(2, MOST)
    key.array[1, : MOST // 2] = 0
    operands = full(1, MOST), key, full(2, MOST)
    others = tokens, 1, 1e-9, CodeGrid(np.float32(0.004), 0, 8)
    np.testing.assert_array_equal(
        native.attention(*operands, *others), reference_attention.attention(*operands, *others)
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_one_channel_more_is_refused(engine: str) -> None:
    tokens = TokenMap.of_groups(1, (1, 1), (1, 2))
    operands = (full(rows, MOST + 1) for rows in (1, 2, 2))
    with pytest.raises(UnsupportedError, match=f"{MOST + 1} channels of a head"):
        ENGINES[engine](*operands, tokens, 1, 1e-9, BYTE)


def test_products_in_float_have_no_limit() -> None:
    check_attention(None, BYTE, None, BYTE, 10 * MOST, 10 * MOST)
    check_attention(BYTE, None, BYTE, None, 10 * MOST, 10 * MOST)


@pytest.mark.parametrize("argument", ["keys", "channels"])
def test_the_extension_refuses_them_too(argument: str) -> None:
    keys, channels = (MOST + 1, 1) if argument == "keys" else (1, MOST + 1)
    grid, softmax = (0.1, 10.0, 0, 255), (0.1, 10.0, 1, 255)
    rows = np.zeros((1, 1), np.int32)
    with pytest.raises(ValueError, match="as 32-bit sums hold"):
        _kernels.attention(
            query=np.zeros((1, channels), np.uint8),
            key=np.zeros((keys, channels), np.uint8),
            value=np.zeros((keys, channels), np.uint8),
            grids=(grid, grid, softmax, grid),
            query_rows=rows,
            key_rows=np.arange(keys, dtype=np.int32)[None],
            output_rows=rows,
            heads=1,
            scales=(1.0, 1.0, 1.0),
            numerators=None,
            table=None,
            relative_rows=None,
            relative_columns=None,
            lines=1,
            values=np.zeros((1, channels), np.float32),
            output=None,
            output_grid=None,
        )
