"""Image embeddings on disk: an image is encoded once, whoever asks for its masks, and how often.

`docs/embeddings.md` describes the files.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from carsam.engines.base import Embedding, Engine
from carsam.errors import UserError
from carsam.formats.files import check_writable, write_whole

FORMAT = "carsam-embedding-1"

OTHER_FOLDER = "Give another folder for the embeddings, or make room."


class EmbeddingCache:
    """A folder of embeddings, one file each, named by engine and pixels.

    Args:
        folder: made when the first embedding is written.
        warn: called with the name of each file that is passed over, and once if none can be
            written: the work goes on without.

    Attributes:
        found, computed: how many embeddings `encode` read, and how many it had to make.
        lost: how many of those made could not be written.

    Raises:
        UserError: `folder` is a file.
    """

    def __init__(self, folder: str | Path, warn: Callable[[str], object] = warnings.warn) -> None:
        self.folder, self._warn = Path(folder), warn
        self.found = self.computed = self.lost = 0
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{folder} is a file; give a folder for the embeddings.")

    def check(self) -> None:
        """Refuse, before any work, a folder that cannot be written; one is not made yet.

        Raises:
            UserError: it cannot be written.
        """
        check_writable(self.folder / "name", OTHER_FOLDER)

    def encode(self, engine: Engine, pixels: np.ndarray) -> Embedding:
        """Return what `engine.encode(pixels)` does, from the folder where it is there.

        Raises:
            UserError: the engine has no fingerprint.
        """
        path = self._path(engine, pixels)
        embedding = self._read(path)
        if embedding is None:
            self.computed += 1
            embedding = engine.encode(pixels)
            self._write(path, embedding)
        else:
            self.found += 1
        return embedding

    def _path(self, engine: Engine, pixels: np.ndarray) -> Path:
        fingerprint = getattr(engine, "fingerprint", None)
        if fingerprint is None:
            raise UserError(
                f"Engine {type(engine).__name__} has no fingerprint to tell its embeddings from "
                "those of others; use it without a cache."
            )
        digest = hashlib.sha256(f"{FORMAT}\n{fingerprint}\n".encode())
        digest.update(np.ascontiguousarray(pixels, np.float32).data)
        return self.folder / f"{digest.hexdigest()}.safetensors"

    def _read(self, path: Path) -> Embedding | None:
        if not path.exists():
            return None
        try:
            return _read(path)
        except Exception as error:  # a damaged file makes its reader raise almost anything
            self._warn(f"{path} is no intact embedding ({error}); it is made again.")
            return None

    def _write(self, path: Path, embedding: Embedding) -> None:
        embedding = tuple(np.ascontiguousarray(part) for part in embedding)
        parts = {str(index): part for index, part in enumerate(embedding)}
        content = save(parts, {"format": FORMAT, "name": path.stem, "sha256": _digest(embedding)})
        try:
            write_whole(path, content, OTHER_FOLDER)
        except UserError as error:
            self.lost += 1
            if self.lost == 1:
                self._warn(f"Embeddings are not kept. {error}")


def _read(path: Path) -> Embedding:
    with safe_open(path, framework="numpy") as file:
        metadata, names = file.metadata() or {}, file.keys()
        if metadata.get("format") != FORMAT or metadata.get("name") != path.stem:
            raise ValueError("it is another program's, or was renamed")
        embedding = tuple(file.get_tensor(str(index)) for index in range(len(names)))
    if metadata.get("sha256") != _digest(embedding):
        raise ValueError("its content does not match its SHA-256")
    return tuple(_by_token(part) for part in embedding)


def _by_token(part: np.ndarray) -> np.ndarray:
    """The same (C, h, w), in memory token by token, as the native decoder reads it every time."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(part, 0, -1)), -1, 0)


def _digest(embedding: Embedding) -> str:
    layout = json.dumps([[str(part.dtype), part.shape] for part in embedding])
    digest = hashlib.sha256(layout.encode())
    for part in embedding:
        digest.update(part.data)
    return digest.hexdigest()
