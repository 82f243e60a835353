"""Sources of images by what a path says; a new kind is a line in `OF_FILES` and a file here."""

import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path

from carsam.annotation.sources.base import Source
from carsam.annotation.sources.files import CocoSource, FolderSource
from carsam.annotation.sources.parquet import ParquetSource
from carsam.annotation.sources.webdataset import WebDatasetSource
from carsam.annotation.storage import Storage, is_url, split, storage
from carsam.errors import UserError

OF_FILES: dict[str, Callable[[Storage, Sequence[str]], Source]] = {
    ".parquet": ParquetSource,
    ".tar": WebDatasetSource,
    ".tar.gz": WebDatasetSource,
    ".tgz": WebDatasetSource,
}
"""Sources that are files with many images, by the files' ending."""


def find_source(path: str, images: str | None = None) -> Source:
    """Return the source that a path means.

    Args:
        path: a folder of images, or of parquet or tar files; a COCO json; one such file, or
            several as `DIR/*.tar`; each of them but the json may be a url of fsspec.
        images: folder of a COCO json's images; that of the json unless given.

    Raises:
        UserError: there is nothing of that kind.
    """
    if path.lower().endswith(".json"):
        if is_url(path):
            raise UserError(f"Found the url {path}; a COCO json must be a file of this machine.")
        return CocoSource(Path(path), storage(images or str(Path(path).parent)))
    if images is not None:
        raise UserError(
            f"--images belongs to a COCO json, but the source is {path}; leave it away."
        )
    kind = _kind(path)
    if kind is not None:
        folder, name = split(path)
        files = [each for each in folder.names() if fnmatch.fnmatchcase(each, name)]
        if not files:
            raise UserError(f"Found no file {path}.")
        return kind(folder, files)
    if not is_url(path) and not Path(path).is_dir():
        found = "is a file" if Path(path).exists() else "does not exist"
        raise UserError(
            f"Source {path} {found}; expected a folder of images, a COCO .json, .parquet or .tar "
            "files, or a url."
        )
    folder = storage(path)
    names = folder.names()
    for ending, kind in OF_FILES.items():
        files = [name for name in names if name.lower().endswith(ending)]
        if files:
            return kind(folder, files)
    return FolderSource(folder)


def _kind(path: str) -> Callable[[Storage, Sequence[str]], Source] | None:
    return next((kind for end, kind in OF_FILES.items() if path.lower().endswith(end)), None)
