"""Outlines with fewer corners stay where they were."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from carsam.images.outlines import perimeter, simplified

STAIRS = [0, 0, 2, 0, 2, 1, 3, 1, 3, 2, 4, 2, 4, 4, 0, 4]


def test_corners_on_a_line_go():
    square = [0, 0, 5, 0, 10, 0, 10, 10, 0, 10, 0, 4]
    assert simplified(square, 0) == [[0, 0], [10, 0], [10, 10], [0, 10]]
    assert perimeter(square) == 40


def test_steps_become_a_slope():
    assert simplified(STAIRS, 0) == np.reshape(STAIRS, (-1, 2)).tolist()
    assert simplified(STAIRS, 0.75) == [[0, 0], [2, 0], [4, 2], [4, 4], [0, 4]]


corners = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=40)


@given(corners, st.floats(0, 20))
def test_no_corner_is_farther_than_the_tolerance(corners, tolerance):
    kept = simplified([number for corner in corners for number in corner], tolerance)
    ends = [*kept[1:], kept[0]]
    for corner in corners:
        assert min(distance(corner, *line) for line in zip(kept, ends, strict=True)) <= tolerance


def distance(point, start, end) -> float:
    """Return how far a point is from the line between two."""
    point, start, end = (np.array(each, float) for each in (point, start, end))
    line = end - start
    along = np.clip((point - start) @ line / (line @ line), 0, 1) if line.any() else 0
    return float(np.linalg.norm(point - start - along * line)) - 1e-9
