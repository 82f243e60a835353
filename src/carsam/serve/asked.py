"""A request that has arrived, as the code that answers it sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carsam.serve.segmenter import Segmenter
from carsam.serve.settings import Settings


@dataclass(frozen=True)
class Asked:
    """A request.

    Args:
        segmenter: what is served.
        settings: of the server.
        body: what was sent.
        json: whether the request says that this is JSON.
    """

    segmenter: Segmenter
    settings: Settings
    body: bytes
    json: bool


Answer = Callable[[Asked], dict[str, Any]]
"""Answers a request in a thread that may compute: a dict that becomes JSON."""
