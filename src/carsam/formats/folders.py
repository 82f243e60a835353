"""Folders that appear whole or not at all, that one process writes at a time.

While `run` is replaced, the new folder stands complete beside it as `.run.new`, and the old one for
a moment as `.run.old`. A kill at any point leaves one of the three; whoever writes next ends what
was begun, and readers find the one that is there.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carsam.errors import UserError
from carsam.formats.files import check_writable
from carsam.formats.locks import locked


@contextmanager
def sole_writer(folder: Path) -> Iterator[Path]:
    """Let no other process write a folder meanwhile, and end what a killed one began.

    Gives the folder's path without links, which is the one to write.

    Raises:
        UserError: another process is writing it, or nothing can be written beside it.
    """
    check_writable(folder.parent / f".{folder.name}", "Choose another folder.")
    real = Path(os.path.realpath(folder))
    busy = (
        f"Another process (HOLDER) is writing {folder}. Wait until it has ended, or choose another "
        "folder."
    )
    with locked(real.parent / f".{real.name}.lock", busy):
        try:
            _end_replacing(real)
        except OSError as error:
            raise UserError(
                f"The replacement of {folder} was stopped and cannot be ended: {error}. See that "
                "nothing uses the folder and that you may write there."
            ) from error
        yield real


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder that takes the place of `folder` once everything is in it."""
    with sole_writer(folder) as real:
        partial = Path(tempfile.mkdtemp(prefix=_part_prefix(real), dir=real.parent))
        try:
            yield partial
            _flush(partial)
            partial.chmod(0o755)  # temporary folders are private
            if real.exists():
                os.rename(partial, _new(real))
                _end_replacing(real)
            else:
                os.rename(partial, real)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def standing(folder: str | Path) -> Path:
    """Return where the content of a folder is, even when its replacement was killed half-way."""
    if not os.path.exists(folder):
        try:
            real = Path(os.path.realpath(folder))
        except (OSError, ValueError):  # a name that no file can have
            return Path(folder)
        for other in (_new(real), _old(real)):
            if os.path.isdir(other):
                return other
    return Path(folder)


def _end_replacing(folder: Path) -> None:
    """Do what is left of a replacement, and remove what is left of those that came to nothing."""
    new, old = _new(folder), _old(folder)
    if new.exists():
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(new, folder)
    elif old.exists() and not folder.exists():
        os.rename(old, folder)
    part = re.compile(re.escape(_part_prefix(folder)) + r"\w{8}")  # as tempfile names them
    for path in list(folder.parent.iterdir()):
        if path == old or part.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _new(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.new"


def _old(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.old"


def _part_prefix(folder: Path) -> str:
    return f".{folder.name}.part-"


def _flush(folder: Path) -> None:
    """Have the disk take what was written, so that no power cut leaves names without content."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
