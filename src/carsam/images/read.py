"""Reading images of any common kind as RGB uint8, and choosing some of a folder."""

import hashlib
import os
import warnings
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from carsam.errors import UserError
from carsam.images.decode import EncodedImage, as_array, decode, opened
from carsam.images.given_arrays import given_array
from carsam.images.listing import HARMLESS, UNUSABLE, Listing
from carsam.images.preprocess import Framing, resize, resize_pillow
from carsam.images.remarks import Tell, deep_images, skipped_images


def _unheard(_: str) -> None:
    """Drop a sentence."""


ImageSource = str | os.PathLike[str] | EncodedImage | Image.Image | np.ndarray


@dataclass(frozen=True)
class ImageSample:
    """Images chosen from a folder; each is read when it is asked for.

    Args:
        folder: where they are.
        names: chosen files relative to the folder, with forward slashes, in the seeded order.
        skipped: files passed over because they could not be read, likewise.
        sha256: digest over the SHA-256 digests of the chosen files' bytes, in order.
    """

    folder: Path
    names: tuple[str, ...]
    skipped: tuple[str, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        """Read one image as RGB uint8 (H, W, 3)."""
        return read_image(self.folder / self.names[index], warn=_unheard)  # told when it was chosen

    def __iter__(self) -> Iterator[np.ndarray]:
        """Read one image after the other."""
        return (self[index] for index in range(len(self)))


def read_image(
    source: ImageSource, *, warn: Tell = warnings.warn, max_megapixels: float | None = None
) -> np.ndarray:
    """Return an image as RGB uint8 (H, W, 3).

    The EXIF orientation is applied, transparency is dropped, of animations the first frame is
    taken. More than 8 bits become 8 as `carsam.images.depth.to_eight_bits` says: where only a
    part of the values is used, that part becomes 0..255.

    Args:
        source: a file or its bytes, a Pillow image, or an array or tensor, RGB uint8 (H, W, 3)
            already.
        warn: called with a sentence where a part of the values became 0..255.
        max_megapixels: most million pixels that a file may have; Pillow's limit unless given.

    Raises:
        UserError: naming the file, if it is missing, damaged, empty, too large or not an image.
    """
    source = _checked_source(source)
    if isinstance(source, np.ndarray):
        return source
    return as_array(decode(source, warn=warn, max_megapixels=_checked_limit(max_megapixels))[0])


def read_resized(
    source: ImageSource,
    framing: Framing,
    *,
    warn: Tell = warnings.warn,
    max_megapixels: float | None = None,
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return an image, RGB in 0..255, resized as a model wants it, and its true size.

    The same as `resize(read_image(source), framing)`, in less memory: 4 bytes for each pixel of
    the file. JPEGs of more than 89 million pixels are decoded at a half, a quarter or an eighth,
    still twice as large as needed or more, in about 30 MB (progressive ones in 3 bytes for
    each pixel beside that); their pixels differ a little.

    Args: as `read_image`.

    Returns:
        (h, w, 3), and height and width of the image.

    Raises:
        UserError: as `read_image`.
    """
    source = _checked_source(source)
    if isinstance(source, np.ndarray):
        return resize(source, framing), (source.shape[0], source.shape[1])
    limit = _checked_limit(max_megapixels)
    image, size = decode(source, warn=warn, max_megapixels=limit, framing=framing)
    return resize_pillow(image, framing.resized(size), framing), size


def check_image(path: str | Path, max_megapixels: float | None = None) -> None:
    """Refuse, before any work, a file that is no image or too large; damage may show later."""
    with opened(Path(path), _checked_limit(max_megapixels)):
        pass


def list_images(
    folder: str | Path, *, warn: Tell = warnings.warn, info: Tell = _unheard
) -> list[Path]:
    """Return the image files in a folder and its subfolders, linked ones included.

    An image has the ending of a format that Pillow opens, in upper or lower case. Hidden files are
    left out. The images are sorted by their path relative to the folder, the same way on every
    system; a folder that several links lead to is searched once.

    Args:
        folder: where to search.
        warn: called with what cannot be read, counted and with a few names.
        info: called likewise with what is no image.

    Raises:
        UserError: if the folder is missing, or holds no image.
    """
    folder = _checked_folder(folder)
    listing = Listing(folder)
    if not listing.images:
        passed_over = f" Passed over: {listing}." if listing.passed_over else ""
        raise UserError(
            f"Found no image in {folder} or its subfolders; expected files that Pillow reads, with "
            f"an ending such as .bmp .gif .jpeg .jpg .png .tif .webp.{passed_over}"
        )
    for tell, reasons in ((warn, UNUSABLE), (info, HARMLESS)):
        passed_over = listing.told(reasons)
        if passed_over:
            tell(f"Passed over in {folder}: {passed_over}.")
    return [folder / name for name in listing.images]


def sample_images(
    folder: str | Path,
    count: int,
    seed: int = 0,
    *,
    exact: bool = False,
    among: Collection[str] | None = None,
    avoid: Container[str] = (),
    warn: Tell,
    info: Tell = _unheard,
) -> ImageSample:
    """Choose `count` different images of a folder, at random but repeatably.

    The seeded order sorts by a digest of seed and relative name: it depends neither on the
    system's listing nor on the version of a random generator. An image that cannot be read is
    passed over, with a warning, for the next of that order.

    Args:
        folder: searched with its subfolders.
        count: images asked for, at least 1.
        seed: another seed chooses others.
        exact: refuse fewer than `count`, instead of warning.
        among: relative names, with forward slashes, of the files to choose from; None for all that
            `list_images` finds.
        avoid: relative names not to choose.
        warn: called with each warning.
        info: called with what the folder holds beside images.

    Raises:
        UserError: if no image is left, or fewer than `count` with `exact`.
    """
    if count < 1:
        raise UserError(f"Asked for {count} images; ask for at least 1.")
    folder = _checked_folder(folder)
    if among is None:
        found = list_images(folder, warn=warn, info=info)
        names = [path.relative_to(folder).as_posix() for path in found]
    else:
        names = [name for name in among if (folder / name).is_file()]
    candidates = sorted((n for n in names if n not in avoid), key=lambda n: _seeded(seed, n))
    chosen: list[str] = []
    skipped: list[str] = []
    unreadable, deep = skipped_images(warn), deep_images(warn)
    digest = hashlib.sha256()
    for name in candidates:
        if len(chosen) == count:
            break
        try:
            read_image(folder / name, warn=deep.add)
        except UserError as error:
            skipped.append(name)
            unreadable.add(f"Skipped an image. {error}")
            continue
        chosen.append(name)
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    unreadable.finish()
    deep.finish()
    if len(chosen) < count:
        _report_missing(folder, len(chosen), len(skipped), count, exact, warn)
    return ImageSample(folder, tuple(chosen), tuple(skipped), digest.hexdigest())


def _checked_folder(folder: str | Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"Image folder {folder} {found}; give a folder that holds images.")
    return folder


def _seeded(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def _report_missing(
    folder: Path, found: int, skipped: int, count: int, exact: bool, warn: Tell
) -> None:
    """Warn of fewer images than asked for, or refuse them."""
    message = f"Found {found} readable images in {folder} ({skipped} skipped), asked for {count}"
    if found == 0:
        raise UserError(f"{message}; give a folder with intact images.")
    if exact:
        raise UserError(f"{message}; add images or ask for at most {found}.")
    warn(f"{message}; continuing with {found}.")


def _checked_source(source: object) -> Path | EncodedImage | Image.Image | np.ndarray:
    """Return a path, a Pillow image, or a checked array; refuse everything else."""
    if isinstance(source, str | os.PathLike):
        return Path(source)
    if isinstance(source, EncodedImage | Image.Image):
        return source
    if source is None:
        raise UserError("Found no image but None; give a file, a Pillow image or an RGB array.")
    return _check_array(given_array(source, "pixels"))


def _check_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise UserError(
            f"Found an image array of shape {array.shape} and type {array.dtype}; expected "
            "(height, width, 3) RGB of type uint8. Repeat a grey channel three times, drop an "
            "alpha channel, scale floats to 0..255."
        )
    return np.ascontiguousarray(array)


def _checked_limit(max_megapixels: float | None) -> float | None:
    if max_megapixels is not None and not max_megapixels > 0:
        raise UserError(f"Found a limit of {max_megapixels} megapixels; expected more than 0.")
    return max_megapixels
