"""Pictures: tinted masks, prompts, panels, files."""

import numpy as np
import pytest
from PIL import Image

from carsam.errors import UserError
from carsam.images.drawing import (
    LOSSLESS,
    Panel,
    draw_prompt,
    mask_picture,
    overlay_mask,
    panel_rows,
    save_mask,
    save_picture,
)

GREY = np.full((40, 60, 3), 128, np.uint8)


def square_mask() -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    return mask


def test_overlay_changes_pixels_of_the_mask_only() -> None:
    mask = square_mask()
    changed = (overlay_mask(GREY, mask) != GREY).any(axis=2)
    np.testing.assert_array_equal(changed, mask)


def test_overlay_of_an_empty_mask_is_the_image() -> None:
    np.testing.assert_array_equal(overlay_mask(GREY, np.zeros((40, 60), bool)), GREY)


def test_prompts_are_drawn_on_a_copy() -> None:
    drawn = draw_prompt(GREY, box=(5, 5, 50, 30), points=[(20, 20, 1), (40, 10, 0)])
    assert (GREY == 128).all()
    assert tuple(drawn[5, 20]) == (255, 196, 0)
    assert tuple(drawn[20, 20]) == (0, 220, 90)


def test_panel_rows_have_a_cell_for_every_panel() -> None:
    panels = [Panel(GREY, "photo"), Panel(GREY, "mask")]
    picture = panel_rows([panels, panels], panel_size=30)
    assert picture.size == (2 * 36 + 6, 2 * (20 + 22 + 6) + 6)


def test_a_mask_survives_its_picture(tmp_path) -> None:
    save_picture(mask_picture(square_mask()), tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as image:
        np.testing.assert_array_equal(np.asarray(image) == 255, square_mask())
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]


def test_missing_folders_are_made(tmp_path) -> None:
    save_picture(mask_picture(square_mask()), tmp_path / "new" / "mask.png")
    assert (tmp_path / "new" / "mask.png").exists()


@pytest.mark.parametrize("name", ["mask", "mask.docx", "mask.png/mask.png", "mask.h5", "mask.xbm"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path, name: str) -> None:
    (tmp_path / "mask.png").write_text("a file")
    with pytest.raises(UserError, match="mask"):
        save_picture(mask_picture(square_mask()), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]


def test_a_picture_beyond_its_format_is_refused_in_a_sentence(tmp_path) -> None:
    with pytest.raises(UserError, match=r"Cannot write picture .*wide\.webp"):
        save_picture(Image.new("RGB", (20_000, 1)), tmp_path / "wide.webp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", LOSSLESS)
def test_formats_of_masks_keep_them(tmp_path, ending) -> None:
    for mask in (square_mask(), np.zeros((4, 5), bool), np.ones((4, 5), bool)):
        save_mask(mask, tmp_path / f"mask{ending}")
        with Image.open(tmp_path / f"mask{ending}") as image:
            np.testing.assert_array_equal(np.asarray(image), mask * 255)


@pytest.mark.parametrize("ending", [".jpg", ".JPG", ".webp", ".jp2", ".avif", ".gif", ""])
def test_formats_that_would_change_a_mask_are_refused(tmp_path, ending) -> None:
    with pytest.raises(UserError, match=r"lossless.*\.png"):
        save_mask(square_mask(), tmp_path / f"mask{ending}")
    assert not list(tmp_path.iterdir())
