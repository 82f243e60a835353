"""Grids and crops are segment-anything's, for images of any shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carsam.predict.everything.points import crop_boxes, layer_grids
from carsam.predict.everything.suppression import suppress


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 3), st.floats(0, 0.9))
def test_crops_cover_the_image_and_hold_pixels(height, width, layers, ratio):
    boxes = crop_boxes((height, width), layers, ratio)
    assert boxes[0] == ((0, 0, width, height), 0)
    for layer in range(layers + 1):
        covered = np.zeros((height, width), bool)
        for (x0, y0, x1, y1), number in boxes:
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
            if number == layer:
                covered[y0:y1, x0:x1] = True
        assert covered.all()


def test_crops_and_grids_are_metas(segment_anything):
    from segment_anything.utils import amg

    for size in ((90, 120), (683, 1024), (31, 400)):
        boxes, layers = amg.generate_crop_boxes(size, 2, 512 / 1500)
        assert crop_boxes(size, 2, 512 / 1500) == list(zip(map(tuple, boxes), layers, strict=True))
    expected = amg.build_all_layer_point_grids(32, 2, 2)
    for ours, theirs in zip(layer_grids(32, 2, 2), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_suppression_is_that_of_torchvision(threshold):
    import torch
    from torchvision_parts import batched_nms

    random = np.random.default_rng(0)
    corners = random.integers(0, 30, (200, 2))
    boxes = np.concatenate([corners, corners + random.integers(0, 30, (200, 2))], axis=1)
    scores = random.integers(0, 50, 200).astype(np.float32)
    expected = batched_nms(
        torch.from_numpy(boxes).float(), torch.from_numpy(scores), torch.zeros(200), threshold
    )
    np.testing.assert_array_equal(suppress(boxes, scores, threshold), expected)


def test_suppression_of_nothing_is_nothing():
    assert suppress(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []
