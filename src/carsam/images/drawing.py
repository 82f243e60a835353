"""Pictures for people: masks over photos, prompts, rows of panels with captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from carsam.errors import UserError
from carsam.formats.files import check_writable, whole_file

Colour = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""

WHITE = (255, 255, 255)
MASK_COLOUR = (30, 144, 255)
BOX_COLOUR = (255, 196, 0)
POINT_COLOURS = {1: (0, 220, 90), 0: (230, 40, 40)}
"""Point label -> colour: foreground, background."""

LOSSLESS = (".png", ".bmp", ".pgm", ".pnm", ".ppm", ".sgi", ".tga", ".tif", ".tiff")
"""Endings of formats that keep a mask's 0 and 255; GIF keeps them as numbers of a palette."""

CAPTION_HEIGHT = 22
GAP = 6

WHERE_TO = "Name a file in a folder that you may write to and that has room."


@dataclass(frozen=True)
class Panel:
    """One cell of a picture.

    Args:
        image: RGB uint8 (H, W, 3).
        caption: one short line, written above the image.
    """

    image: np.ndarray
    caption: str


def overlay_mask(
    image: np.ndarray,
    mask: np.ndarray,
    opacity: float = 0.55,
    colour: Colour = MASK_COLOUR,
    outline: Colour = WHITE,
) -> np.ndarray:
    """Return `image` (H, W, 3) uint8 with the bool `mask` (H, W) tinted and outlined."""
    tinted = image.copy()
    inside = image[mask].astype(np.float32)
    inside += opacity * (np.array(colour, np.float32) - inside)
    tinted[mask] = inside.round()
    tinted[_outline(mask)] = outline
    return tinted


def draw_prompt(
    image: np.ndarray,
    box: Sequence[float] | None = None,
    points: Sequence[tuple[float, float, int]] = (),
    colour: Colour = BOX_COLOUR,
) -> np.ndarray:
    """Return a copy of `image` with the box (x0 y0 x1 y1) and points (x, y, label), in pixels."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    width = max(2, round(max(canvas.size) / 200))
    if box is not None:
        draw.rectangle(tuple(box), outline=colour, width=width)
    for x, y, label in points:
        draw.circle((x, y), 2 * width, fill=POINT_COLOURS[label], outline="white", width=width // 2)
    return np.array(canvas)


def panel_rows(rows: Sequence[Sequence[Panel]], panel_size: int = 320) -> Image.Image:
    """Return one picture of rows of panels; each image is scaled to fit a square.

    Args:
        rows: panels from top to bottom, left to right.
        panel_size: side of the square, in pixels; a row of wide images is less high.
    """
    square = (panel_size, panel_size)
    scaled = [[ImageOps.contain(Image.fromarray(p.image), square) for p in row] for row in rows]
    heights = [CAPTION_HEIGHT + max(image.height for image in row) + GAP for row in scaled]
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (columns * (panel_size + GAP) + GAP, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=14)
    top = GAP
    for row, images, height in zip(rows, scaled, heights, strict=True):
        for column, (panel, image) in enumerate(zip(row, images, strict=True)):
            left = GAP + column * (panel_size + GAP)
            draw.text((left, top), panel.caption, fill="black", font=font)
            canvas.paste(image, (left, top + CAPTION_HEIGHT))
        top += height
    return canvas


def mask_picture(mask: np.ndarray) -> Image.Image:
    """Return a bool mask (H, W) as a grey picture, 0 or 255."""
    return Image.fromarray(np.multiply(mask, 255, dtype=np.uint8))


def save_mask(mask: np.ndarray, path: str | Path) -> None:
    """Write a bool mask (H, W) as `mask_picture`, in a format that keeps it.

    Raises:
        UserError: as `save_picture`, or the format is not one of `LOSSLESS`.
    """
    check_mask_path(Path(path))
    save_picture(mask_picture(mask), path)


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a picture to `path` in the format of its ending; never half of one.

    Missing folders are made.

    Raises:
        UserError: the ending names no format that holds the picture, or it cannot be written.
    """
    path = Path(path)
    kind = _format(path, picture.mode)
    with whole_file(path, WHERE_TO) as file:
        try:
            picture.save(file, kind)
        except OSError as error:
            if error.errno is not None:
                raise
            raise _not_held(path, error) from error
        except Exception as error:  # such as more pixels along a side than the format can count
            raise _not_held(path, error) from error


def check_mask_path(path: Path) -> None:
    """Refuse, before any work, a path to which `save_mask` could not write."""
    if path.suffix.lower() not in LOSSLESS:
        raise UserError(
            f"Cannot write the mask to {path}: only lossless formats keep its 0 and 255. End its "
            f"name in one of {' '.join(LOSSLESS)}."
        )
    check_picture_path(path, "L")


def check_picture_path(path: Path, mode: str = "RGB") -> None:
    """Refuse, before any work, a path to which `save_picture` could not write such a picture."""
    _format(path, mode)
    check_writable(path, WHERE_TO)


def _format(path: Path, mode: str) -> str:
    """Return the format that a path's ending names, after a try with a picture of one pixel."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise UserError(f"Cannot tell the format of picture {path}; end its name in .png or .jpg.")
    try:
        Image.new(mode, (1, 1)).save(BytesIO(), kind)
    except Exception as error:  # a format without colours, or without its encoder
        raise _not_held(path, error) from error
    return kind


def _not_held(path: Path, error: Exception) -> UserError:
    reason = str(error) or type(error).__name__
    return UserError(f"Cannot write picture {path}: {reason}. End its name in .png.")


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside
