"""Boundary IoU against a slow reading of its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carsam.evaluation.boundary import WIDTH, boundary_iou, inner_band


def slow_band(mask: np.ndarray) -> np.ndarray:
    """Pixels of the mask with something else, or the outside, within the distance."""
    distance = max(1, round(WIDTH * np.hypot(*mask.shape)))
    height, width = mask.shape
    band = np.zeros_like(mask)
    steps = range(-distance, distance + 1)
    for row, column in zip(*mask.nonzero(), strict=True):
        band[row, column] = any(
            not (0 <= row + i < height and 0 <= column + j < width and mask[row + i, column + j])
            for i in steps
            for j in steps
        )
    return band


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 90), st.floats(0.5, 1))
def test_the_band_is_what_the_definition_says(seed, height, width, share):
    random = np.random.default_rng(seed)
    small = random.random((height // 8 + 1, width // 8 + 1)) < share
    mask = np.kron(small, np.ones((8, 8), bool))[:height, :width]
    np.testing.assert_array_equal(inner_band(mask), slow_band(mask))


def test_iou_of_bands_by_hand():
    first, second = np.zeros((2, 30, 40), bool)  # the band of a diagonal of 50 is 1 wide
    first[5:15, 5:15] = True  # its band has 36 pixels
    second[5:15, 5:17] = True  # 40, of which 10 + 10 + 10 lie on the other's and 8 not
    assert boundary_iou(first, second) == pytest.approx(28 / 48)
    assert boundary_iou(first, first) == 1.0


def test_empty_masks():
    empty, full = np.zeros((9, 9), bool), np.ones((9, 9), bool)
    assert boundary_iou(empty, empty) == 1.0
    assert boundary_iou(empty, full) == 0.0
