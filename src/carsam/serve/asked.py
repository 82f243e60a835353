"""A request that has arrived, as the code that answers it sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carsam.serve.embeddings import Encoded
from carsam.serve.segmenter import Segmenter
from carsam.serve.settings import Settings


class Later(Exception):
    """The answer takes long: it is computed among others that do."""


@dataclass(frozen=True)
class Asked:
    """A request.

    Args:
        segmenter: what is served.
        settings: of the server.
        body: what was sent.
        json: whether the request says that this is JSON.
        quick: whether only what is quick may be computed, such as masks on an image that is kept.
    """

    segmenter: Segmenter
    settings: Settings
    body: bytes
    json: bool
    quick: bool = False

    def encoded(self, content: bytes) -> Encoded:
        """Return the embedding of an image file.

        Raises:
            UserError: the image cannot be used.
            Later: it must be encoded first.
        """
        kept = self.segmenter.embeddings.find(content)
        if kept is None:
            self.take_time()
            kept = self.segmenter.encode(content)
        return kept

    def take_time(self) -> None:
        """Say that what follows takes long.

        Raises:
            Later: it may not here.
        """
        if self.quick:
            raise Later


Answer = Callable[[Asked], dict[str, Any]]
"""Answers a request in a thread that may compute: a dict that becomes JSON."""
