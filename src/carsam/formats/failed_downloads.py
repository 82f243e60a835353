"""What stands in the place of a file whose download went wrong."""

from pathlib import Path

from carsam.errors import UserError

HEAD = 512
"""Bytes that tell what a file is."""


def read_head(path: Path) -> bytes:
    """Return the beginning of a file of weights or of a description.

    Raises:
        UserError: it cannot be read, is empty, a pointer of git-lfs or a web page.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    start = head.lstrip().lower()
    if not start:
        raise UserError(f"Cannot read {path}: it is empty. Copy or download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"Cannot read {path}: it is a pointer of git-lfs, which stands for a file that was not "
            "downloaded. Run `git lfs pull` in its repository."
        )
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        raise UserError(
            f"Cannot read {path}: it is a web page, such as a login or an error page, where a file "
            "of a model belongs. Download it again."
        )
    return head
