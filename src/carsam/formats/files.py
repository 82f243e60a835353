"""Writing files that appear whole or not at all."""

import errno
import os
import tempfile
from pathlib import Path

from carsam.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the operating system says when a disk, a user's share of it, or a file may not grow."""


def write_whole(path: Path, content: bytes, advice: str) -> None:
    """Write a file through a temporary one beside it; missing folders are made.

    Args:
        advice: what to do where it cannot be written.

    Raises:
        UserError: it cannot be written.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            partial = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a name must not outlive a power cut that its content did not
        partial.chmod(0o644)  # temporary files are private
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}. {advice}") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Tell whether something could not be written for want of room.

    safetensors reports the operating system's errors in its messages only.
    """
    named = (f"(os error {number})" in str(error) for number in FULL)
    return getattr(error, "errno", None) in FULL or any(named)
