"""Reading images of any common kind as RGB uint8, and choosing some of a folder."""

import hashlib
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from carsam.errors import UserError

EXTENSIONS = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Lower-case file extensions that `list_images` takes for images."""

ImageSource = str | Path | Image.Image | np.ndarray


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
        return read_image(self.folder / self.names[index])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Read one image after the other."""
        return (self[index] for index in range(len(self)))


def read_image(source: ImageSource) -> np.ndarray:
    """Return an image as RGB uint8 (H, W, 3).

    The EXIF orientation is applied, transparency is dropped, of animations the first frame is
    taken. Depths above 8 bits keep their upper 8 bits (value >> 8), as Pillow does for 16-bit
    colour; integers beyond 16 bits and floats are scaled so that their range becomes 0..255.

    Args:
        source: a file, a Pillow image, or an array, which must be RGB uint8 (H, W, 3) already.

    Raises:
        UserError: naming the file, if it is missing, damaged, empty, too large or not an image.
    """
    if isinstance(source, np.ndarray):
        return _check_array(source)
    if isinstance(source, Image.Image):
        with _failures_named("given by Pillow"):
            return _to_rgb(source, "given by Pillow")
    return _read_file(Path(source))


def list_images(folder: str | Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, by extension, hidden ones left out.

    They are sorted by their path relative to the folder, the same way on every system.

    Raises:
        UserError: if the folder is missing, or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"Image folder {folder} {found}; give a folder that holds images.")
    relative = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    images = [
        path
        for path in relative
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.parts)
    ]
    if not images:
        raise UserError(
            f"Found no image in {folder} or its subfolders; expected files ending in "
            f"{' '.join(sorted(EXTENSIONS))}."
        )
    return [folder / path for path in sorted(images, key=Path.as_posix)]


def sample_images(
    folder: str | Path,
    count: int,
    seed: int = 0,
    *,
    exact: bool = False,
    among: Container[str] | None = None,
    avoid: Container[str] = (),
    warn: Callable[[str], None],
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
        among: relative names, with forward slashes, of the files to choose from; None for all.
        avoid: relative names not to choose.
        warn: called with each warning.

    Raises:
        UserError: if no image is left, or fewer than `count` with `exact`.
    """
    if count < 1:
        raise UserError(f"Asked for {count} images; ask for at least 1.")
    folder = Path(folder)
    names = [path.relative_to(folder).as_posix() for path in list_images(folder)]
    candidates = [n for n in names if (among is None or n in among) and n not in avoid]
    candidates.sort(
        key=lambda name: hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
    )
    chosen: list[str] = []
    skipped: list[str] = []
    digest = hashlib.sha256()
    for name in candidates:
        if len(chosen) == count:
            break
        try:
            read_image(folder / name)
        except UserError as error:
            skipped.append(name)
            warn(f"Skipped an image. {error}")
            continue
        chosen.append(name)
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    if len(chosen) < count:
        _report_missing(folder, len(chosen), len(skipped), count, exact, warn)
    return ImageSample(folder, tuple(chosen), tuple(skipped), digest.hexdigest())


def _report_missing(
    folder: Path, found: int, skipped: int, count: int, exact: bool, warn: Callable[[str], None]
) -> None:
    """Warn of fewer images than asked for, or refuse them."""
    message = f"Found {found} readable images in {folder} ({skipped} skipped), asked for {count}"
    if found == 0:
        raise UserError(f"{message}; give a folder with intact images.")
    if exact:
        raise UserError(f"{message}; add images or ask for at most {found}.")
    warn(f"{message}; going on with {found}.")


def _check_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise UserError(
            f"Found an image array of shape {array.shape} and type {array.dtype}; expected "
            "(height, width, 3) RGB of type uint8. Repeat a grey channel three times, drop an "
            "alpha channel, scale floats to 0..255."
        )
    return np.ascontiguousarray(array)


def _read_file(path: Path) -> np.ndarray:
    if not path.is_file():
        found = "it is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"Cannot read image {path}: {found}.")
    if path.stat().st_size == 0:
        raise UserError(f"Cannot read image {path}: the file is empty (0 bytes).")
    with _failures_named(str(path)), warnings.catch_warnings():
        # Up to twice its limit of pixels, Pillow only warns.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            return _to_rgb(image, str(path))


@contextmanager
def _failures_named(name: str) -> Iterator[None]:
    """Turn what Pillow raises into a UserError that names the image."""
    try:
        yield
    except UserError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(
            f"Cannot read image {name}: it has more than {Image.MAX_IMAGE_PIXELS} pixels. "
            "Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(f"Cannot read image {name}: its content is no known format.") from error
    except Exception as error:  # decoders raise almost any type on damaged files
        raise UserError(f"Cannot read image {name}: {error or type(error).__name__}.") from error


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    if 0 in image.size:
        raise UserError(f"Cannot read image {name}: it is {image.width} x {image.height} pixels.")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_eight_bits(np.asarray(image), name))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette with several transparent entries needs the step
    return np.array(image.convert("RGB"))


def _to_eight_bits(grey: np.ndarray, name: str) -> np.ndarray:
    """Bring one deep channel (H, W) to uint8."""
    if not np.isfinite(grey).all():
        raise UserError(f"Cannot read image {name}: it holds values that are not finite.")
    lowest, highest = grey.min(), grey.max()
    if grey.dtype.kind in "iu" and lowest >= 0 and highest <= 0xFFFF:
        return (grey >> 8).astype(np.uint8)
    spread = float(highest) - float(lowest) or 1.0
    return np.rint((grey.astype(np.float64) - lowest) * (255 / spread)).astype(np.uint8)
