import numpy as np
import pytest

from carsam.images.moved_boxes import moved_boxes


@pytest.mark.parametrize("count", [0, 1, 300])
def test_moved_boxes_stay_within_the_picture_and_near_their_size(count):
    boxes = np.array([[0.0, 0, 8, 8], [10, 20, 200, 60], [0, 0, 320, 240]])
    moved = moved_boxes(boxes, count, np.array([0, 0, 320, 240]), np.random.default_rng(0))
    assert moved.shape == (count, 4)
    assert moved.dtype == np.float32
    assert (moved >= 0).all()
    assert (moved <= (320, 240, 320, 240)).all()
    sides = moved[:, 2:] - moved[:, :2]
    assert (sides >= 4 - 1e-4).all()  # 8 pixels, half of them cut off at the edge at most
    assert (sides <= (320, 240)).all()


def test_moved_boxes_differ_and_are_those_of_their_seed():
    boxes = np.array([[10.0, 20, 60, 70]])
    first, again, other = (
        moved_boxes(boxes, 20, np.array([0, 0, 100, 100]), np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first, axis=0)) == 20
