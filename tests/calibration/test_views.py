"""Other views of an image: its mirror image and parts of it, with prompts that fit."""

import numpy as np
import pytest

from carsam.calibration.views import views_of
from carsam.images.clicks import are_clicks

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
ROWS = np.array(
    [[2, 3, 30, 20], [0, 0, 60, 40], [50, 30, 58, 39], [7, 9, 7, 9], [59, 1, 59, 1]], np.float32
)


def views(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(views_of(IMAGE, ROWS, (seed,)))


def place_of(picture: np.ndarray) -> tuple[int, int]:
    """Row and column of the only place of the image where a picture is."""
    height, width = picture.shape[:2]
    (found,) = [
        (top, left)
        for top in range(41 - height)
        for left in range(61 - width)
        if np.array_equal(IMAGE[top : top + height, left : left + width], picture)
    ]
    return found


def test_the_first_is_the_mirror_image() -> None:
    picture, rows = views()[0]
    assert np.array_equal(picture, IMAGE[:, ::-1])
    assert rows.tolist()[:2] == [[30, 3, 58, 20], [0, 0, 60, 40]]
    assert rows.tolist()[3] == [53, 9, 53, 9]


@pytest.mark.parametrize("seed", range(20))
def test_parts_show_a_piece_of_the_image_and_their_own_prompts(seed) -> None:
    _, (plain, rows), (mirrored, flipped) = views(seed)
    for picture, prompts in ((plain, rows), (mirrored[:, ::-1], flipped)):
        height, width = picture.shape[:2]
        assert 20 <= height <= 32 and 30 <= width <= 48
        place_of(picture)
        assert len(prompts) == len(ROWS) and are_clicks(prompts).sum() == 2
        assert (prompts >= 0).all()
        assert (prompts[:, [0, 2]] <= width).all() and (prompts[:, [1, 3]] <= height).all()
        assert (prompts[:, 2:] >= prompts[:, :2]).all()


def test_prompts_that_a_part_shows_stay_where_they_were() -> None:
    kept = 0
    for seed in range(20):
        _, (picture, rows), _ = views(seed)
        top, left = place_of(picture)
        bounds = np.array([0, 0, picture.shape[1], picture.shape[0]])
        moved = ROWS - np.array([left, top, left, top])
        for row in moved[((moved >= 0) & (moved <= bounds[[2, 3, 2, 3]])).all(1)]:
            assert (rows == row).all(1).any()
            kept += 1
    assert kept > 5


def test_other_seeds_show_other_parts() -> None:
    assert len(views()) == 3
    for (one, _), (same, _), (other, _) in zip(
        views(0)[1:], views(0)[1:], views(1)[1:], strict=True
    ):
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)
