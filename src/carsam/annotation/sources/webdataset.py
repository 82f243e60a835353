"""Images in tar files, as WebDataset keeps them; each file is read from front to back."""

import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from carsam.annotation.items import Item, Part, Reader
from carsam.annotation.sources.base import Wanted
from carsam.annotation.storage import Storage
from carsam.errors import UserError
from carsam.images.listing import endings
from carsam.progress import Progress

MOST_IN_A_TAR = 10**7
"""Numbers that each tar file has for its images."""


@dataclass(frozen=True)
class Tar:
    """One tar file, the `place`-th of the source."""

    folder: Storage
    file: str
    place: int

    images = None

    @property
    def key(self) -> str:
        return self.file

    def __iter__(self) -> Iterator[tuple[Item, Reader]]:
        number = self.place * MOST_IN_A_TAR
        with self.folder.open(self.file) as file:
            try:
                with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Entry) as archive:
                    for member in archive:
                        if _is_image(member):
                            number += 1
                            entry = archive.extractfile(member)
                            assert entry is not None  # as it is a file
                            yield Item(member.name, None, number), partial(bytes, entry.read())
            except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
                place, reason = f"{self.folder}/{self.file}", str(error).rstrip(".")
                raise UserError(f"{place} is no whole tar file: {reason}.") from error


class WebDatasetSource:
    """Tar files; each is a part, however many images it holds."""

    def __init__(self, folder: Storage, files: Sequence[str]) -> None:
        self.folder, self.files = folder, files

    def parts(self, size: int, wanted: Wanted, progress: Progress) -> list[Part]:
        return [Tar(self.folder, file, place) for place, file in enumerate(self.files)]


class _Entry(tarfile.TarInfo):
    """An entry of an archive that has to have its end; `tarfile` takes a cut for it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Entry":
        """Read a header."""
        if len(buf) != tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it is cut short")
        return super().frombuf(buf, encoding, errors)


def _is_image(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    hidden = path.name.startswith(".")
    return member.isfile() and not hidden and path.suffix.lower() in endings()
