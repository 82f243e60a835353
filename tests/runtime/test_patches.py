"""Rearrangements of images."""

import numpy as np
import pytest

from carsam.runtime import strips
from carsam.runtime.geometry import TokenMap
from carsam.runtime.patches import (
    largest_of_squares,
    neighbourhoods,
    patches,
    surroundings,
    unfold_patches,
    window_rows,
)


def test_patches_are_rows_of_their_pixels() -> None:
    image = np.arange(4 * 6 * 2).reshape(4, 6, 2)
    rows = patches(image, 2)
    np.testing.assert_array_equal(rows[4], image[2:4, 2:4].ravel())


def test_unfold_patches_undoes_patches() -> None:
    image = np.arange(3 * 4 * 6 * 2).reshape(3, 4, 6, 2)
    np.testing.assert_array_equal(unfold_patches(patches(image, 2), 2, 3, 2), image)


def test_neighbourhoods_pad_the_border() -> None:
    image = np.arange(1, 10)[:, None]
    rows = neighbourhoods(image, 3, 3, 7)
    np.testing.assert_array_equal(rows[0], [7, 7, 7, 7, 1, 2, 7, 4, 5])
    np.testing.assert_array_equal(rows[4], np.arange(1, 10))


def test_surroundings_may_be_some_pixels_apart() -> None:
    image = np.arange(1, 37).reshape(6, 6, 1)
    squares = surroundings(image, 3, 2, ((1, 1), (1, 1)), 0)
    assert squares.shape == (3, 3, 3, 3, 1)
    np.testing.assert_array_equal(squares[0, 0, ..., 0], [[0, 0, 0], [0, 1, 2], [0, 7, 8]])
    np.testing.assert_array_equal(squares[1, 2, ..., 0], image[1:4, 3:6, 0])


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_each_square_leaves_its_largest_number_of_every_channel(dtype) -> None:
    numbers = np.random.default_rng(0).integers(0, 255, (4 * 6, 5)).astype(dtype)
    found = largest_of_squares(numbers, 6, 2)
    assert found.dtype == numbers.dtype
    squares = patches(numbers.reshape(4, 6, 5), 2).reshape(6, 4, 5)
    np.testing.assert_array_equal(found, squares.max(axis=1))


def test_windows_of_an_image_that_is_no_square_are_filled_up() -> None:
    rows = window_rows((2, 5), 3, -7)
    np.testing.assert_array_equal(rows[0], [0, 1, 2, 5, 6, 7, -7, -7, -7])
    np.testing.assert_array_equal(rows[1], [3, 4, -7, 8, 9, -7, -7, -7, -7])


def test_pooled_queries_attend_to_the_keys_of_their_window() -> None:
    tokens = TokenMap.of_pooled_windows((4, 6), 4, 2)
    assert tokens.outputs == 6
    np.testing.assert_array_equal(tokens.query_rows, [[0, 1, 3, 4], [2, -1, 5, -1]])
    np.testing.assert_array_equal(tokens.output_rows, tokens.query_rows)
    np.testing.assert_array_equal(tokens.key_rows[0, :8], [0, 1, 2, 3, 6, 7, 8, 9])
    np.testing.assert_array_equal(tokens.key_rows[1, :8], [4, 5, 24, 24, 10, 11, 24, 24])


def test_strips_have_whole_steps(monkeypatch) -> None:
    monkeypatch.setattr(strips, "TOKENS_AT_ONCE", 100)
    assert list(strips.strips(20, 10, 4)) == [(0, 8), (8, 16), (16, 20)]
    assert list(strips.strips(20, 10, 14)) == [(0, 14), (14, 20)]
    assert list(strips.strips(250, 1)) == [(0, 100), (100, 200), (200, 250)]
