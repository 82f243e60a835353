"""Embeddings in memory, found by the content of the image, within a number of bytes."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from carsam.engines.base import Embedding

STRIPES = 64
"""Locks, so that two requests with the same new image encode it once."""


@dataclass(frozen=True)
class Encoded:
    """An image as a model sees it.

    Args:
        key: SHA-256 of its file, in hexadecimal.
        embedding: what the engine computed of it.
        size: height and width of the image.
        seconds: that reading and encoding it took.
        warnings: what was said when it was read.
    """

    key: str
    embedding: Embedding
    size: tuple[int, int]
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.embedding)


class Embeddings:
    """The embeddings that were used last; threads may share them.

    Args:
        capacity: bytes of all of them together.

    Attributes:
        nbytes: bytes in use.
        found, computed: how often one was kept that was asked for by content, and how often not.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.nbytes = self.found = self.computed = 0
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._lock = threading.Lock()
        self._stripes = [threading.Lock() for _ in range(STRIPES)]

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> Encoded | None:
        """Return what is kept of the image with that SHA-256, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def find(self, content: bytes) -> Encoded | None:
        """Return what is kept of an image, or None; nobody is waited for."""
        return self._found(hashlib.sha256(content).hexdigest())

    def encode(self, content: bytes, compute: Callable[[str], Encoded]) -> Encoded:
        """Return the embedding of an image; `compute` is given its key if it is not kept."""
        key = hashlib.sha256(content).hexdigest()
        with self._stripes[int(key[:8], 16) % STRIPES]:
            encoded = self._found(key)
            if encoded is None:
                encoded = compute(key)
                self._keep(encoded)
        return encoded

    def _found(self, key: str) -> Encoded | None:
        encoded = self.get(key)
        if encoded is not None:
            with self._lock:
                self.found += 1
        return encoded

    def _keep(self, encoded: Encoded) -> None:
        with self._lock:
            self.computed += 1
            if encoded.nbytes > self.capacity:
                return
            self._kept[encoded.key] = encoded
            self.nbytes += encoded.nbytes
            while self.nbytes > self.capacity:
                _, oldest = self._kept.popitem(last=False)
                self.nbytes -= oldest.nbytes
