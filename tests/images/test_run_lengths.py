"""Run lengths are those of pycocotools, byte by byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from carsam.errors import UserError
from carsam.images import run_lengths

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(MASKS)
def test_they_are_those_of_pycocotools(mask):
    rle = run_lengths.encode(mask)
    expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    assert rle == {"size": list(mask.shape), "counts": expected["counts"].decode()}
    assert (run_lengths.decode(rle) == mask).all()
    assert run_lengths.area(rle) == mask.sum()
    if mask.any():
        assert run_lengths.box(rle) == coco_mask.toBbox(expected).tolist()


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_long_runs_are_those_of_pycocotools(first, second):
    mask = np.zeros((1, first + second), bool)
    mask[0, first:] = True
    expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert run_lengths.encode(mask)["counts"] == expected
    assert run_lengths.area({"size": [1, first + second], "counts": expected}) == second


def test_a_mask_without_a_pixel_has_no_box():
    rle = run_lengths.encode(np.zeros((3, 4), bool))
    assert run_lengths.area(rle) == 0
    assert run_lengths.box(rle) == [0, 0, 0, 0]


@pytest.mark.parametrize("counts", ["", "~~", "0o", "\n"])
def test_what_is_no_encoding_is_refused(counts):
    with pytest.raises(UserError, match="no run lengths"):
        run_lengths.decode({"size": [2, 2], "counts": counts})


def test_runs_of_another_size_are_refused():
    rle = run_lengths.encode(np.ones((3, 4), bool))
    with pytest.raises(UserError, match="do not fill 5 x 3 pixels"):
        run_lengths.decode({**rle, "size": [3, 5]})
