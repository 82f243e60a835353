"""Options of the commands that listen at a socket."""

import os
from dataclasses import dataclass
from typing import Any

from cyclopts import Parameter

from carsam.progress import Progress
from carsam.serve.settings import Settings

TOKEN_VARIABLE = "CARSAM_TOKEN"


@Parameter(name="*", group="Serving options")
@dataclass(frozen=True)
class Serving:
    """Where to listen, and what may be used.

    Args:
        host: address to listen at; the default is reached from this machine only.
        port: port to listen at; 0 takes a free one.
        workers: images that are encoded at the same time, and as many prompts beside them.
        queue: requests that may wait for either; more of them are told to come again.
        timeout: seconds that a request may take to arrive, and again to be answered.
        upload_mb: million bytes that a request may have.
        bodies_mb: million bytes that all requests in memory may have together.
        cache_mb: million bytes of embeddings to keep, of each model.
    """

    host: str = Settings.host
    port: int = Settings.port
    workers: int = Settings.workers
    queue: int = Settings.queue
    timeout: float = Settings.timeout
    upload_mb: float = Settings.upload_mb
    bodies_mb: float = Settings.bodies_mb
    cache_mb: float = Settings.cache_mb

    def settings(self, progress: Progress, **others: Any) -> Settings:
        """Return the settings of a server, and warn if strangers can use it.

        Args:
            others: further fields of `Settings`.
        """
        token = os.environ.get(TOKEN_VARIABLE) or None
        settings = Settings(**vars(self), token=token, **others)
        if token is None and not settings.local:
            progress.warn(
                f"Whoever reaches {self.host} can use the server; set {TOKEN_VARIABLE} to ask for "
                "a token."
            )
        return settings
