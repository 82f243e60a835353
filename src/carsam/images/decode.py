"""Decoding image files of any kind that Pillow reads, as 8-bit RGB."""

import math
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from carsam.errors import TooManyPixelsError, UserError
from carsam.images.depth import to_eight_bits
from carsam.images.preprocess import Framing
from carsam.images.remarks import Tell
from carsam.images.strips import strips

ALWAYS_WHOLE = 1024**3 // 12
"""Pixels up to which a JPEG is decoded at its full size whatever it is needed for: Pillow's limit.

Larger ones may be decoded at a half, a quarter or an eighth, which changes pixels a little.
"""

_LIMIT = threading.Lock()
"""Held while Pillow's limit is lifted; free in a process that forks."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_LIMIT.acquire, after_in_parent=_LIMIT.release, after_in_child=_LIMIT.release
    )


@dataclass(frozen=True)
class EncodedImage:
    """The bytes of an image that has no file of its own, such as an archive's entry.

    Args:
        name: what messages call it.
        content: the bytes of a file that Pillow reads.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


def decode(
    source: Path | EncodedImage | Image.Image,
    *,
    warn: Tell,
    max_megapixels: float | None = None,
    framing: Framing | None = None,
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a file or its bytes, or convert a Pillow image, to RGB.

    Args:
        source: it is not changed.
        warn: hears of a range of values that became 0..255 (`depth.to_eight_bits`).
        max_megapixels: most million pixels that a file may have; Pillow's limit unless given.
        framing: that the image is going to be shrunk for, if at all. A JPEG of more than
            `ALWAYS_WHOLE` pixels is then decoded smaller, at twice the size needed or more.

    Returns:
        The image, upright, and its true height and width.

    Raises:
        UserError: naming the file, if it is missing, damaged, empty, too large or not an image.
    """
    if isinstance(source, Image.Image):
        with _failures_named("given by Pillow"):
            rgb = _to_rgb(source, "given by Pillow", warn)
            return rgb, (rgb.height, rgb.width)
    with opened(source, max_megapixels) as image:
        whole = image.size
        if framing is not None and math.prod(whole) > ALWAYS_WHOLE:
            _decode_smaller_(image, framing)
        smaller = image.size != whole
        turned = _orientation(image) in (5, 6, 7, 8)  # these swap width and height
        rgb = _to_rgb(image, str(source), warn)
        if not smaller:
            return rgb, (rgb.height, rgb.width)
        return rgb, whole if turned else whole[::-1]


@contextmanager
def opened(path: Path | EncodedImage, max_megapixels: float | None = None) -> Iterator[Image.Image]:
    """Open an image file, or its bytes, and check its size; its pixels are not decoded yet.

    Raises:
        UserError: as `decode`, also for what is raised in the `with` block.
    """
    with _failures_named(str(path)):
        _check_file(path)
        with _without_limit() as limit:
            image = Image.open(BytesIO(path.content) if isinstance(path, EncodedImage) else path)
        with image:
            pixels = image.width * image.height
            own = limit if max_megapixels is None else min(max_megapixels * 1e6, sys.maxsize)
            if own is not None and pixels > own:
                raise _too_large(path, image, int(own))
            if limit is not None and pixels > limit:
                with _without_limit():  # some formats look at it when they decode
                    yield image
            else:
                yield image


@contextmanager
def _without_limit() -> Iterator[int | None]:
    """Lift Pillow's limit of pixels, one number per process, and return it.

    Up to twice that number Pillow only warns, and a filter of warnings would disturb other threads.
    """
    with _LIMIT:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield limit
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _too_large(path: Path | EncodedImage, image: Image.Image, limit: int) -> TooManyPixelsError:
    needed = math.ceil(image.width * image.height / 1e6)
    return TooManyPixelsError(
        f"Cannot read image {path}: it has {image.width} x {image.height} pixels, more than "
        f"{limit} pixels. Shrink it, or raise the limit if you trust it: --max-megapixels "
        f"{needed} (in Python max_megapixels={needed}, or PIL.Image.MAX_IMAGE_PIXELS)."
    )


def as_array(image: Image.Image) -> np.ndarray:
    """Return an RGB image as uint8 (H, W, 3), without the copies that Pillow makes of all of it."""
    array = np.empty((image.height, image.width, 3), np.uint8)
    for rows in strips(image.height, image.width):
        array[rows] = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
    return array


def _check_file(path: Path | EncodedImage) -> None:
    if isinstance(path, EncodedImage):
        if not path.content:
            raise UserError(f"Cannot read image {path}: it is empty (0 bytes).")
        return
    if path.is_dir():
        raise UserError(f"Cannot read image {path}: it is a folder.")
    if not path.exists():
        raise UserError(f"Cannot read image {path}: there is no such file.")
    if not path.is_file():
        raise UserError(f"Cannot read image {path}: it is no regular file.")
    if path.stat().st_size == 0:
        raise UserError(f"Cannot read image {path}: the file is empty (0 bytes).")


@contextmanager
def _failures_named(name: str) -> Iterator[None]:
    """Turn what Pillow raises into a UserError that names the image."""
    try:
        yield
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"Cannot read image {name}: its content is no known format.") from error
    except Exception as error:  # decoders raise almost any type on damaged files
        raise UserError(f"Cannot read image {name}: {error or type(error).__name__}.") from error


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _decode_smaller_(image: Image.Image, framing: Framing) -> None:
    """Let a JPEG be decoded smaller, at twice the size that a framing needs or more."""
    least, (width, height) = 2 * framing.side, image.size
    side = min(width, height) if framing.stretched else max(width, height)
    image.draft(image.mode, (max(1, width * least // side), max(1, height * least // side)))


def _to_rgb(image: Image.Image, name: str, warn: Tell) -> Image.Image:
    if 0 in image.size:
        raise UserError(f"Cannot read image {name}: it is {image.width} x {image.height} pixels.")
    deep_colour = _has_deep_colour(image)
    image.load()
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _with_contrast(np.asarray(image), 16, name, warn).convert("RGB")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette with several transparent entries needs the step
    if image.mode != "RGB":
        image = image.convert("RGB")
    return _with_contrast(as_array(image), 8, name, warn) if deep_colour else image


def _has_deep_colour(image: Image.Image) -> bool:
    """Whether a file that is not decoded yet has 16 bits per channel, of which Pillow keeps 8."""
    return image.mode in ("L", "LA", "RGB", "RGBA", "RGBX") and any(
        re.search(";16[BLN]", str(tile)) for tile in getattr(image, "tile", ())
    )


def _with_contrast(values: np.ndarray, bits: int, name: str, warn: Tell) -> Image.Image:
    """Return the 8-bit image of deep values, of whose `bits` some may be unused."""
    if not np.isfinite(values).all():
        raise UserError(f"Cannot read image {name}: it holds values that are not finite.")
    eight, used = to_eight_bits(values, bits)
    if used is not None:
        what = "values" if bits > 8 else "upper 8 bits"
        warn(f"Image {name} has more than 8 bits; its {what} from {used} became 0 to 255.")
    return Image.fromarray(eight)
