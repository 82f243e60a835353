"""Writing files that appear whole or not at all."""

import os
import tempfile
from pathlib import Path

from carsam.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Write a text whole; a file's name in it that is no proper text is written with escapes.

    Raises:
        UserError: it cannot be written.
    """
    content = text.encode("utf-8", "backslashreplace")
    write_whole(path, content, "Give a file in a folder you may write to.")


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
        partial.chmod(0o644)  # temporary files are private
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}. {advice}") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
