"""Windows of training: masks and boxes stay on their objects however a window is placed."""

import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("transformers")

LEFT, TOP, WIDTH, HEIGHT = 200, 150, 90, 60


@pytest.fixture
def picture():
    """A white ellipse on dark ground, whose annotated box is a third of a pixel larger."""
    from pictures import Cutout, Picture

    x = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / (WIDTH / 2)
    y = (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / (HEIGHT / 2)
    mask = ((x[None] ** 2 + y[:, None] ** 2 <= 1) * 255).astype(np.uint8)
    image = np.zeros((480, 640, 3), np.uint8)
    image[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = mask[..., None]
    box = (LEFT - 0.3, TOP - 0.3, LEFT + WIDTH + 0.3, TOP + HEIGHT + 0.3)
    return Picture(image, (Cutout(LEFT, TOP, mask, box),))


def stage(**changes):
    from recipe import TrainingStage

    settings = {"zoom": (0.7, 1.8), "stretch": 1.5, "turned": 0.0} | changes
    return TrainingStage(
        1, 256, 1, 1, 1, 0.0, 0.0, correction_probability=0.0, learning_rates=(0.0, 0.0), **settings
    )


@pytest.mark.parametrize("turned", [0.0, 1.0])
def test_masks_and_boxes_are_where_the_object_is(picture, turned):
    from windows import MEAN, cut_window

    for seed in range(20):
        window = cut_window(np.random.default_rng(seed), picture, [picture], stage(turned=turned))
        photograph = (window.image != MEAN).any(-1)
        bright = window.image.astype(float).mean(-1)
        middle = (bright[photograph].max() + bright[photograph].min()) / 2
        seen, mask = photograph & (bright > middle), window.masks[0] >= 128
        assert (seen & mask).sum() > 0.93 * (seen | mask).sum()
        rows, columns = np.nonzero(mask)
        found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert np.abs(window.boxes[0] - found).max() <= 2


def test_an_object_wholly_in_view_has_its_annotated_box(picture):
    from windows import CANVAS, cut_window

    plain = stage(zoom=(1.0, 1.0), stretch=1.0)
    sides = np.array([WIDTH + 0.6, HEIGHT + 0.6]) * CANVAS / 640
    whole = 0
    for seed in range(20):
        box = cut_window(np.random.default_rng(seed), picture, [picture], plain).boxes[0]
        if box.min() > 1 and box.max() < 255:
            whole += 1
            np.testing.assert_allclose(box[2:] - box[:2], sides)
    assert whole > 3


def test_outside_of_the_photograph_is_the_mean_colour_and_no_object(picture):
    from windows import MEAN, cut_window

    small = stage(zoom=(0.4, 0.4))
    window = cut_window(np.random.default_rng(1), picture, [picture], small)
    np.testing.assert_array_equal(window.image[-1], np.tile(MEAN, (256, 1)))
    assert not window.masks[:, -1].any()
