"""Writing files that appear whole or not at all, and asking early whether they can be written."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from carsam.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the operating system says when a disk, a user's share of it, or a file may not grow."""


def write_whole(path: Path, content: bytes | str, advice: str) -> None:
    """Write a file through a temporary one beside it; missing folders are made.

    Args:
        content: bytes, or text, in which the name of a file that is no proper text gets escapes.
        advice: what to do where it cannot be written.

    Raises:
        UserError: it cannot be written.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    with whole_file(path, advice) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path, advice: str) -> Iterator[IO[bytes]]:
    """Give a file to write that takes its name, and the place of an older one, when all is written.

    Missing folders are made. A device or pipe, such as `/dev/stdout`, is written to directly.

    Args:
        advice: what to do where it cannot be written.

    Raises:
        UserError: it cannot be written; then nothing is left behind.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as file:
                yield file
            return
        _existing_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_file(path.parent) as (file, name):
            yield file
            file.flush()
            os.fsync(file.fileno())  # a name must not outlive a power cut that its content did not
            file.close()
            name.chmod(0o644)  # temporary files are private
            os.replace(name, path)
    except OSError as error:
        raise _cannot_write(path, error, advice) from error


def check_writable(path: Path, advice: str) -> None:
    """Refuse, before any work, a file that could not be written after it; nothing is made.

    For a folder that is going to be filled give the path of a file in it.

    Args:
        advice: what to do where it cannot be written.

    Raises:
        UserError: the path is a folder, a part of it is a file, or its folder is read-only.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if path.exists() and not path.is_file():
            return
        with _temporary_file(_existing_folder(path)):
            pass
    except OSError as error:
        raise _cannot_write(path, error, advice) from error


def write_if_possible(
    path: Path, write: Callable[[Path], object], warn: Callable[[str], object]
) -> None:
    """Let `write` make a file that a result can do without; tell `warn` where it fails."""
    try:
        write(path)
    except Exception as error:  # whatever a plot fails of, the numbers are kept
        warn(f"{path} could not be made: {error or type(error).__name__}.")


def is_disk_full(error: BaseException) -> bool:
    """Tell whether something could not be written for want of room.

    safetensors reports the operating system's errors in its messages only.
    """
    named = (f"(os error {number})" in str(error) for number in FULL)
    return getattr(error, "errno", None) in FULL or any(named)


def _existing_folder(path: Path) -> Path:
    """Return the nearest folder above a path that exists."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file, not a folder")
    return folder


@contextmanager
def _temporary_file(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Give a named file that is gone at the end, unless it was renamed."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".carsam-")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError, advice: str) -> UserError:
    return UserError(f"Cannot write {path}: {error.strerror or error}. {advice}")
