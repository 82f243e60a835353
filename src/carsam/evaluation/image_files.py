"""Which file of a folder each image of a json is, whatever path the json gives."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from carsam.errors import UserError
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.warning_log import WarningLog
from carsam.images.read import list_images


def on_disk(
    data: CocoData, folder: str | Path, log: WarningLog, limit: int | None = None
) -> CocoData:
    """Return the images that are in the folder, at most `limit`, under their names in it.

    Raises:
        UserError: There is no such folder, or none of the images is in it.
    """
    files = find_files((image.file_name for image in data.images), folder, log)
    images = [
        replace(image, file_name=files[image.file_name])
        for image in data.images
        if image.file_name in files
    ][:limit]
    found = replace(data, images=tuple(images))
    return found.restricted({image.id for image in images})


def find_files(names: Iterable[str], folder: str | Path, log: WarningLog) -> dict[str, str]:
    """Return the path of each image in `folder`, with forward slashes, by its name in the json.

    Where the json's path is none of a file in the folder, the only file of that name in the folder
    or its subfolders is taken; case does not matter, and of several files that one whose folders
    are the json's. Others are left out and counted in `log`.

    Raises:
        UserError: There is no such folder, or none of the images is in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Give the folder of the json's images.")
    names = list(dict.fromkeys(names))
    search = _Search(folder)
    found = {name: search.find(name) for name in names}
    users = defaultdict(set)
    for name, files in found.items():
        if len(files) == 1:
            users[files[0]].add(name.replace("\\", "/"))
    chosen = {}
    for name, files in found.items():
        if not files:
            log.add("missing-image", name)
        elif len(files) > 1 or (len(users[files[0]]) > 1 and search.exact(name) is None):
            log.add("ambiguous-image", name)
        else:
            chosen[name] = files[0]
    if not chosen:
        raise UserError(
            f"None of the {len(names)} images of {log.json} is in {folder}.{log.sentences()} "
            "Give the folder of the json's images."
        )
    return chosen


class _Search:
    def __init__(self, folder: Path) -> None:
        self._folder = os.path.abspath(folder)

    def find(self, name: str) -> list[str]:
        """Return the files that an image of the json may be."""
        exact = self.exact(name)
        return self._alike(name) if exact is None else [exact]

    def exact(self, name: str) -> str | None:
        """Return the file in the folder to which the json's path leads, if any."""
        for spelling in _spellings(name):
            path = os.path.normpath(os.path.join(self._folder, spelling))
            if path.startswith(os.path.join(self._folder, "")) and os.path.isfile(path):
                return Path(path).relative_to(self._folder).as_posix()
        return None

    def _alike(self, name: str) -> list[str]:
        """Return the files of the same name, those in the most folders of the json's path."""
        for spelling in _spellings(name):
            wanted = PurePosixPath(spelling)
            files = self._files.get(_key(wanted.name), [])
            if files:
                alike = {file: _common_ending(wanted, PurePosixPath(file)) for file in files}
                return [file for file in files if alike[file] == max(alike.values())]
        return []

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        """All images of the folder and its subfolders by `_key` of their name."""
        files = defaultdict(list)
        with suppress(UserError):  # no image at all
            for path in list_images(self._folder, warn=lambda _: None):
                files[_key(path.name)].append(path.relative_to(self._folder).as_posix())
        return files


def _spellings(name: str) -> list[str]:
    """Return a path as it stands, with the slashes of this system, and without percent signs."""
    forward = name.replace("\\", "/")
    return list(dict.fromkeys((name, forward, unquote(forward))))


def _key(name: str) -> str:
    """Return what is equal for names that differ in case or in how accents are encoded."""
    return unicodedata.normalize("NFC", name).casefold()


def _common_ending(first: PurePosixPath, second: PurePosixPath) -> tuple[int, bool]:
    """Return how many last parts of two paths are equal, and whether the names are exactly."""
    pairs = zip(reversed(first.parts), reversed(second.parts), strict=False)
    equal = [_key(one) == _key(other) for one, other in pairs]
    return (*equal, False).index(False), first.name == second.name
