"""Pseudo-videos: masks stay on their objects, and the same numbers draw the same clip."""

import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("transformers")

SIZE = 96


def picture(brightness):
    """A bright ellipse on dark ground; the ground is all that is dark."""
    from pictures import Cutout, Picture

    x, y = (np.arange(80) + 0.5 - 40) / 40, (np.arange(60) + 0.5 - 30) / 30
    mask = ((x[None] ** 2 + y[:, None] ** 2 <= 1) * 255).astype(np.uint8)
    image = np.zeros((240, 320, 3), np.uint8)
    image[90:150, 120:200] = (mask > 0)[..., None] * np.uint8(brightness)
    return Picture(image, (Cutout(120, 90, mask, (120, 90, 200, 150)),))


def clip(seed, frames=4):
    from sam2_mini.clips import make_clip

    random = np.random.default_rng(seed)
    return make_clip(random, picture(200), [picture(250)], SIZE, frames)


def test_masks_are_where_the_objects_are():
    covered = []
    for seed in range(12):
        drawn = clip(seed)
        for image, masks in zip(drawn.frames, drawn.masks.swapaxes(0, 1), strict=True):
            light = image.astype(float).mean(0)
            bright = light > (light.max() + light.min()) / 2
            mask = masks.any(0)
            if 200 < mask.sum() < 0.6 * SIZE**2:
                covered.append((bright & mask).sum() / mask.sum())
    assert len(covered) > 10
    assert np.median(covered) > 0.95


def test_a_pixel_belongs_to_one_object():
    for seed in range(6):
        assert clip(seed).masks.sum(0).max() <= 1


def test_objects_move_and_the_same_seed_draws_the_same():
    first, again, other = clip(3), clip(3), clip(4)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.frames, other.frames)
    assert not np.array_equal(first.masks[:, 0], first.masks[:, -1])
