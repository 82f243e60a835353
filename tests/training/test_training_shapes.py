"""Windows without content hold ellipses that fill their boxes."""

import numpy as np
import pytest


@pytest.mark.parametrize("seed", range(3))
def test_ellipses_touch_their_boxes_and_leave_the_corners(seed):
    from samples import _box
    from shapes import shapes_window

    window = shapes_window(np.random.default_rng(seed), 96, 40)
    assert window.image.shape == (96, 96, 3) and window.masks.shape == (40, 96, 96)
    for mask in window.masks:
        left, top, right, bottom = _box(mask).astype(int)
        if left > 0 and top > 0 and right < 96 and bottom < 96 and right - left > 12:
            share = (mask[top:bottom, left:right] >= 128).mean()
            assert share == pytest.approx(np.pi / 4, abs=0.08)


def test_the_image_says_nothing_about_the_ellipses():
    from shapes import shapes_window

    window = shapes_window(np.random.default_rng(0), 96, 8)
    image = window.image.astype(float).mean(-1)
    for mask in window.masks >= 128:
        assert abs(image[mask].mean() - image[~mask].mean()) < 5
