"""Listing the image files of a folder and its subfolders, linked ones included."""

import os
from collections import defaultdict
from collections.abc import Container
from functools import cache
from pathlib import Path

from PIL import Image

from carsam.errors import few

EMPTY = "empty files"
BROKEN = "broken links"
CLOSED = "files and folders that cannot be opened"
UNUSABLE = frozenset((EMPTY, BROKEN, CLOSED))
"""Why something that was to be read is passed over."""

OTHER_ENDING = "files without the ending of an image"
HIDDEN = "hidden files and folders"
SPECIAL = "pipes and devices"
REPEATED = "folders searched already under another name"
AS_FOLDERS = "folders with the ending of an image, searched as folders"
HARMLESS = frozenset((OTHER_ENDING, HIDDEN, SPECIAL, REPEATED, AS_FOLDERS))
"""Why something is passed over that nobody wants to read as an image."""


class Listing:
    """What a folder and its subfolders hold.

    Attributes:
        images: files with the ending of an image, relative to the folder, with forward slashes,
            in order.
        passed_over: names of the rest by the reason, one of `UNUSABLE` or `HARMLESS`.
    """

    def __init__(self, folder: Path) -> None:
        self.images: list[str] = []
        self.passed_over: defaultdict[str, list[str]] = defaultdict(list)
        self._folder = folder
        self._searched: set[tuple[int, int]] = set()
        self._search()
        self.images.sort()

    def __str__(self) -> str:
        return self.told(UNUSABLE | HARMLESS)

    def told(self, reasons: Container[str]) -> str:
        """Count what was passed over for some reasons, with a few names; empty for nothing."""
        return ", ".join(
            f"{reason} ({len(names)}: {few(sorted(names))})"
            for reason, names in self.passed_over.items()
            if reason in reasons
        )

    def _search(self) -> None:
        """Search every folder once, those that are no links first, under their own names."""
        folders: list[str] = [""]
        links: list[str] = []
        while folders or links:
            if not folders:
                links.sort(reverse=True)
                folders.append(links.pop())
            for name in self._entries(folders.pop()):
                if self._is_folder(name):
                    (links if (self._folder / name).is_symlink() else folders).append(name)

    def _entries(self, parent: str) -> list[str]:
        """Return the names in a folder; none if it was searched before, as in a loop of links."""
        try:
            status = os.stat(self._folder / parent)
            entries = os.listdir(self._folder / parent)
        except OSError:
            self.passed_over[CLOSED].append(parent)
            return []
        identity = (status.st_dev, status.st_ino)
        if identity in self._searched:
            self.passed_over[REPEATED].append(parent)
            return []
        self._searched.add(identity)
        return [f"{parent}/{entry}" if parent else entry for entry in entries]

    def _is_folder(self, name: str) -> bool:
        """Return whether a name is a folder to search; put all others where they belong."""
        path = self._folder / name
        is_image = path.suffix.lower() in endings()
        try:
            if path.is_dir() and not path.name.startswith("."):
                if is_image:
                    self.passed_over[AS_FOLDERS].append(name)
                return True
            reason = _reason(path, is_image)
        except OSError:
            reason = CLOSED
        if reason is None:
            self.images.append(name)
        else:
            self.passed_over[reason].append(name)
        return False


def _reason(path: Path, is_image: bool) -> str | None:
    """Return why a path is no image file to read; None if it is one."""
    if path.name.startswith("."):
        return HIDDEN
    if not path.exists():
        return BROKEN
    if not path.is_file():
        return SPECIAL
    if not is_image:
        return OTHER_ENDING
    return EMPTY if path.stat().st_size == 0 else None


@cache
def endings() -> frozenset[str]:
    """Return the endings, in lower case, of all formats that Pillow opens."""
    known = Image.registered_extensions()
    return frozenset(ending for ending, name in known.items() if name in Image.OPEN)
