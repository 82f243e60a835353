"""Where files lie: a folder of this machine, or what fsspec reaches under a url such as `s3://`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

from carsam.errors import UserError
from carsam.extras import require
from carsam.formats.files import check_writable, write_whole

ROOM = "Choose a folder that you may write to and that has room."


class Storage(Protocol):
    """A folder. Names are relative to it, with forward slashes. It can be pickled."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read; a UserError names it where that is not possible."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of a file; a UserError names it where that is not possible."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        ...

    def names(self) -> list[str]:
        """Return the names of all files, those in subfolders included, in order."""
        ...

    def check(self) -> None:
        """Refuse, before any work, a folder that cannot be written or reached."""
        ...


def is_url(path: str) -> bool:
    """Tell whether a path is one for fsspec."""
    return "://" in path


def storage(path: str) -> Storage:
    """Return the folder that a path or url means, which need not exist.

    Raises:
        UserError: what reads such urls is not installed.
    """
    return Remote(path) if is_url(path) else Local(Path(path))


def split(path: str) -> tuple[Storage, str]:
    """Return the folder of a file, and the file's name in it."""
    folder, _, name = path.rpartition("/") if is_url(path) else _local_parts(path)
    return storage(folder), name


def _local_parts(path: str) -> tuple[str, str, str]:
    return str(Path(path).parent), "/", Path(path).name


@dataclass(frozen=True)
class Local:
    """A folder of this machine."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    def open(self, name: str) -> IO[bytes]:
        try:
            return (self.root / name).open("rb")
        except OSError as error:
            raise UserError(f"Cannot read {self.root / name}: {error.strerror}.") from error

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            try:
                return file.read()
            except OSError as error:
                raise UserError(f"Cannot read {self.root / name}: {error.strerror}.") from error

    def write(self, name: str, content: bytes) -> None:
        write_whole(self.root / name, content, ROOM)

    def names(self) -> list[str]:
        files = (path for path in self.root.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in files)

    def check(self) -> None:
        """Refuse, before any work, a folder that cannot be written."""
        check_writable(self.root / "name", ROOM)


@dataclass(frozen=True)
class Remote:
    """What lies under a url."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # each process connects itself

    @cached_property
    def _root(self) -> tuple[Any, str]:
        require("annotate", "fsspec")
        import fsspec

        try:
            return fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # no package for it, or no such protocol
            raise UserError(
                f"Cannot reach {self.url}: {str(error).rstrip('.')}. Give a url that fsspec knows, "
                "such as s3://bucket/folder, and install the package that it names."
            ) from error

    def _path(self, name: str) -> str:
        root = self._root[1].rstrip("/")
        return f"{root}/{name}" if root else name

    def open(self, name: str) -> IO[bytes]:
        with self._failures_named(name):
            file: IO[bytes] = self._root[0].open(self._path(name), "rb")
            return file

    def read(self, name: str) -> bytes:
        with self._failures_named(name):
            content: bytes = self._root[0].cat_file(self._path(name))
            return content

    def write(self, name: str, content: bytes) -> None:
        with self._failures_named(name, "write"):
            self._root[0].pipe_file(self._path(name), content)  # stores show objects whole

    def names(self) -> list[str]:
        with self._failures_named(""):
            self._root[0].invalidate_cache()  # other processes write here too
            try:
                found = self._root[0].find(self._root[1])
            except FileNotFoundError:
                return []
        start = self._path("")
        return sorted(name.removeprefix(start) for name in found)

    def check(self) -> None:
        """Connect, so that a mistaken url is refused before any work."""
        self.names()

    @contextmanager
    def _failures_named(self, name: str, verb: str = "read") -> Iterator[None]:
        """Turn whatever a store's client raises into a UserError that names the file."""
        place = f"{self.url.rstrip('/')}/{name}" if name else self.url
        try:
            yield
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"Cannot {verb} {place}: there is no such file.") from error
        except Exception as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise UserError(f"Cannot {verb} {place}: {reason}.") from error
