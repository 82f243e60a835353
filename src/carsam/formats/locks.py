"""One writer at a time: a lock that the operating system takes back when its holder dies."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from carsam.errors import UserError

if sys.platform == "win32":
    import msvcrt
else:
    try:
        import fcntl
    except ImportError:  # some Unix without locks of files
        fcntl = None  # type: ignore[assignment]

BEYOND = 1 << 30
"""Windows locks bytes, and locked ones cannot be read: the lock lies far beyond what is written."""

_held: set[tuple[Path, int]] = set()
"""The locks of this process: the path of each, and the thread that holds it."""


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file at `path`; it is gone afterwards.

    No second process and no second thread gets the lock meanwhile. The thread that holds it may ask
    for it again. A file that a killed process left is taken over.

    Args:
        busy: what to say when someone else holds it; its first HOLDER becomes the process's number.

    Raises:
        UserError: someone else holds it, or the file cannot be made.
    """
    key = (path, threading.get_ident())
    if key in _held:
        yield
        return
    file = try_lock(path)
    if file is None:
        raise UserError(busy.replace("HOLDER", _holder(path), 1))
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        release(file, path)


def try_lock(path: Path, sure: bool = False) -> FileIO | None:
    """Return the locked file at `path`, or None when someone else holds it.

    Args:
        sure: return None too on a disk or a system that knows no locks; otherwise the lock is
            taken to be free there.

    Raises:
        UserError: the file cannot be made.
    """
    while True:
        file = _opened(path)
        if not _lock(file, unknown=not sure):
            file.close()
            return None
        if _is_at(file, path):
            break
        file.close()  # whoever held it has removed it since it was opened
    with contextlib.suppress(OSError):  # on a full disk the lock holds without its holder's number
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
    return file


def release(file: FileIO, path: Path) -> None:
    """Give back what `try_lock` returned, and remove the file."""
    with contextlib.suppress(OSError):  # Windows removes no open file
        path.unlink()
    file.close()
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            path.unlink()


def _opened(path: Path) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileIO(path, "a")
    except OSError as error:
        raise UserError(
            f"Cannot write in {path.parent}: {error.strerror}. Choose a folder you may write to."
        ) from error


def _lock(file: FileIO, unknown: bool) -> bool:
    """Lock a file without waiting; `unknown` is the answer where there are no locks."""
    try:
        if sys.platform == "win32":
            file.seek(BEYOND)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        elif fcntl is None:
            return unknown
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return unknown and sys.platform != "win32"
    return True


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "unknown"
    except OSError:
        return "unknown"
