"""Run lengths are COCO's, whole or of a part, and small regions are those that pixels show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from scipy.ndimage import label

from carsam.images import strips
from carsam.images.run_lengths import RunLengths
from carsam.predict.everything.small_regions import without_small_regions

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(MASKS)
def test_run_lengths_are_those_of_pycocotools(mask):
    runs = RunLengths.of_mask(mask)
    expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    assert runs.compressed() == {**expected, "counts": expected["counts"].decode()}
    assert coco_mask.frPyObjects(runs.uncompressed(), *mask.shape) == expected
    assert runs.area == mask.sum()
    np.testing.assert_array_equal(runs.mask(), mask)


def test_long_and_shrinking_runs_are_those_of_pycocotools():
    mask = np.zeros((3000, 40), bool)
    mask[5:, 3], mask[:2000, 7:30], mask[1::2, 35] = True, True, True
    expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    assert RunLengths.of_mask(mask).compressed()["counts"] == expected["counts"].decode()


@given(MASKS, st.integers(0, 4), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))
def test_a_part_is_placed_in_the_whole(mask, left, top, right, bottom):
    whole = np.pad(mask, ((top, bottom), (left, right)))
    runs = RunLengths.of_mask(mask, whole.shape, left, top)
    np.testing.assert_array_equal(runs.counts, RunLengths.of_mask(whole).counts)
    np.testing.assert_array_equal(runs.mask(), whole)


@given(MASKS, st.integers(1, 30))
def test_strips_give_the_same(mask, pixels):
    expected = RunLengths.of_mask(mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "STRIP_PIXELS", pixels)
        np.testing.assert_array_equal(RunLengths.of_mask(mask).edges, expected.edges)


@given(MASKS)
def test_the_box_ends_with_the_last_pixel(mask):
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    expected = (columns[0], rows[0], columns[-1], rows[-1]) if mask.any() else (0, 0, 0, 0)
    assert RunLengths.of_mask(mask).box == expected


def removed(mask, min_area, inside):
    """The mask without its small islands, or with its small holes filled, by pixels."""
    regions, count = label(mask if inside else ~mask, np.ones((3, 3)))
    areas = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    small = areas < min_area
    if inside and count and small.all():
        small[areas.argmax()] = False
    return mask ^ np.isin(regions, np.flatnonzero(small) + 1)


@given(MASKS, st.integers(1, 20))
def test_small_regions_are_those_of_pixels(mask, min_area):
    expected = removed(removed(mask, min_area, inside=False), min_area, inside=True)
    cleaned, changed = without_small_regions(RunLengths.of_mask(mask), min_area)
    # Which of several largest islands stays when all are small is not compared.
    _, count = label(expected, np.ones((3, 3)))
    if not (count == 1 and 0 < expected.sum() < min_area):
        np.testing.assert_array_equal(cleaned.mask(), expected)
        assert changed == (expected != mask).any()
    assert cleaned.area == expected.sum()
