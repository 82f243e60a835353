"""Writing files that appear whole or not at all."""

import os
import tempfile
from pathlib import Path

from carsam.errors import UserError


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
