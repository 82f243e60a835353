"""Masks of several objects in one PNG, as DAVIS keeps them: a pixel's number is its object's."""

from pathlib import Path

import numpy as np
from PIL import Image

from carsam.errors import UserError
from carsam.formats.files import whole_file
from carsam.images.decode import opened

MOST_OBJECTS = 255
"""Numbers that a PNG of 8 bits has beside 0, which is the background."""


def read_labels(path: str | Path) -> np.ndarray:
    """Return the numbers (H, W) uint8 of a PNG's pixels: of its palette, or its grey values.

    Raises:
        UserError: naming the file, if it is missing or damaged, or has colours.
    """
    with opened(Path(path)) as image:
        if image.mode not in ("P", "L", "1"):
            raise UserError(
                f"{path} has pixels of mode {image.mode}; expected masks as numbers of a palette "
                "(P) or grey (L)."
            )
        return np.array(image if image.mode != "1" else image.convert("L"))


def write_labels(labels: np.ndarray, path: str | Path) -> None:
    """Write numbers (H, W) uint8 as a PNG with DAVIS's palette, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    image = Image.fromarray(labels, "L")
    image.putpalette(_palette().tobytes())
    with whole_file(Path(path), "Name a folder that you may write to and that has room.") as file:
        image.save(file, "PNG")


def _palette() -> np.ndarray:
    """Return the colours (256, 3) of PASCAL VOC: bit k of a number goes to bit 7 - k // 3."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = numbers >> (3 * place + channel) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours
