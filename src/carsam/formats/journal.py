"""Finished items of a long job on disk, so that a job that was stopped goes on where it was."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from carsam.errors import UserError
from carsam.formats.files import write_whole

HASH_LENGTH = 12
IDENTITY_FILE = "identity.json"
DOCUMENT = "document"
"""Key of an item's document among its file's metadata."""


@dataclass(frozen=True)
class Item:
    """What a journal keeps under one name: arrays, and JSON values on them."""

    arrays: Mapping[str, np.ndarray]
    document: Any


class Journal:
    """A hidden folder beside what a job is going to make, with one file per item.

    Each item is there whole or not at all. Where one cannot be written the job goes on, after one
    warning. `sole_writer` keeps a second process away from what the job makes, and so from here.

    Args:
        target: the file or folder that the job makes.
        kind: ending of the folder's name, such as `units`.
        identity: JSON values on everything that decides the items; another identity has another
            folder.
        warn: hears that an item cannot be kept.
    """

    def __init__(
        self, target: Path, kind: str, identity: Mapping[str, Any], warn: Callable[[str], object]
    ) -> None:
        self._target, self._kind, self._warn = target, kind, warn
        self._identity = json.loads(json.dumps(identity))  # as it is read back
        text = json.dumps(identity, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]
        self.folder = target.absolute().parent / f".{target.name}-{digest}.{kind}"
        self._warned = False

    def store(self, name: str, item: Item) -> None:
        """Keep an item, in the place of an earlier one of that name."""
        arrays = {key: np.asarray(array, order="C") for key, array in item.arrays.items()}
        content = save(arrays, {DOCUMENT: json.dumps(item.document)})
        try:
            self._write_identity()
            write_whole(self._path(name), content, "Make room.")
        except UserError as error:
            if not self._warned:
                self._warn(f"{error} The work goes on; if it is stopped, this part is done again.")
            self._warned = True

    def restore(self, name: str) -> Item | None:
        """Return an item; None if it was not kept, or its file is damaged."""
        try:
            with safe_open(self._path(name), framework="numpy") as file:
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return Item(arrays, _document(file))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def document(self, name: str) -> Any:
        """Return an item's document alone; None as of `restore`."""
        try:
            with safe_open(self._path(name), framework="numpy") as file:
                return _document(file)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def differences(self) -> list[set[str]]:
        """Return, for each other journal of the target, the keys in which its identity differs."""
        found = []
        for folder in _folders(self._target, self._kind):
            other = _read_identity(folder)
            if folder != self.folder and other is not None:
                keys = {*other, *self._identity}
                found.append({k for k in keys if other.get(k) != self._identity.get(k)})
        return found

    def _write_identity(self) -> None:
        path = self.folder / IDENTITY_FILE
        if not path.exists():
            write_whole(path, json.dumps(self._identity, indent=1).encode(), "Make room.")

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


@dataclass(frozen=True)
class Entry:
    """One item of a journal, for what knows only of itself."""

    journal: Journal
    name: str

    def store(self, item: Item) -> None:
        """Keep the item, in the place of an earlier one."""
        self.journal.store(self.name, item)

    def restore(self) -> Item | None:
        """Return the item; None if it was not kept."""
        return self.journal.restore(self.name)

    def document(self) -> Any:
        """Return the item's document alone; None if it was not kept."""
        return self.journal.document(self.name)


def remove_journals(target: Path, kind: str) -> None:
    """Delete all journals of what is made now, those of other identities included."""
    for folder in _folders(target, kind):
        shutil.rmtree(folder, ignore_errors=True)


def _folders(target: Path, kind: str) -> Iterator[Path]:
    """Yield the folders that are journals of exactly this target."""
    own = re.compile(rf"\.{re.escape(target.name)}-[0-9a-f]{{{HASH_LENGTH}}}\.{re.escape(kind)}")
    parent = target.absolute().parent
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        if own.fullmatch(path.name):
            yield path


def _read_identity(folder: Path) -> dict[str, Any] | None:
    try:
        identity = json.loads((folder / IDENTITY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return identity if isinstance(identity, dict) else None


def _document(file: Any) -> Any:
    return json.loads(file.metadata()[DOCUMENT])
