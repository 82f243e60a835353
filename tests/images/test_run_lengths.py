"""Compressed run lengths, pycocotools' or ours, are read again as the same mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from carsam.errors import UserError
from carsam.images.run_lengths import RunLengths


def compressed(mask):
    """The encoding of pycocotools."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {**rle, "counts": rle["counts"].decode()}


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_they_are_read_again(mask):
    runs = RunLengths.of_compressed(compressed(mask))
    assert (runs.mask() == mask).all()
    assert runs.compressed() == compressed(mask)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_long_runs_are_read_again(first, second):
    mask = np.zeros((1, first + second), bool)
    mask[0, first:] = True
    assert RunLengths.of_compressed(compressed(mask)).area == second


@pytest.mark.parametrize("counts", ["", "~~", "0o", "\n"])
def test_what_is_no_encoding_is_refused(counts):
    with pytest.raises(UserError, match="no run lengths"):
        RunLengths.of_compressed({"size": [2, 2], "counts": counts})


def test_runs_of_another_size_are_refused():
    with pytest.raises(UserError, match="do not fill 5 x 3 pixels"):
        RunLengths.of_compressed({**compressed(np.ones((3, 4), bool)), "size": [3, 5]})
