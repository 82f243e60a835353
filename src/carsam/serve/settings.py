"""What a server may use, and where it listens."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from carsam.errors import UserError


@dataclass(frozen=True)
class Settings:
    """Limits of a server; every number is at least 1, but for `queue` and `cache_mb`.

    Args:
        host, port: where it listens; port 0 takes a free one.
        token: what requests must know, None for nothing.
        workers: images that are encoded at the same time, and as many quick requests beside them.
        queue: requests that may wait for either; with more the answer is 503.
        timeout: seconds that a request may take to arrive, and again to be answered.
        upload_mb: million bytes that the body of a request may have.
        bodies_mb: million bytes that all bodies in memory may have together.
        cache_mb: million bytes of embeddings that are kept, of each model.
        images_from: scheme, host and port from which images may be fetched, None for nowhere.
        images_token: sent there, None for nothing.

    Raises:
        UserError: a number or an address makes no sense.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    workers: int = 2
    queue: int = 64
    timeout: float = 120
    upload_mb: float = 32
    bodies_mb: float = 256
    cache_mb: float = 512
    images_from: str | None = None
    images_token: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "timeout", "upload_mb"):
            if not getattr(self, name) >= 1:
                raise UserError(f"Found {name} {getattr(self, name)}; expected at least 1.")
        for name in ("queue", "cache_mb"):
            if not getattr(self, name) >= 0:
                raise UserError(f"Found {name} {getattr(self, name)}; expected 0 or more.")
        if not self.bodies_mb >= self.upload_mb:
            raise UserError(
                f"Found {self.bodies_mb} MB for all uploads; expected at least the "
                f"{self.upload_mb} MB that one may have."
            )
        if not 0 <= self.port <= 65535:
            raise UserError(f"Found port {self.port}; expected 0 to 65535.")
        if self.images_from is not None and origin(self.images_from) != self.images_from:
            raise UserError(
                f"Found {self.images_from!r} to fetch images from; expected scheme, host and port "
                "alone, such as http://localhost:8080."
            )

    @property
    def upload_bytes(self) -> int:
        """Bytes that the body of a request may have."""
        return int(self.upload_mb * 1e6)

    @property
    def bodies_bytes(self) -> int:
        """Bytes that all bodies in memory may have together."""
        return int(self.bodies_mb * 1e6)

    @property
    def cache_bytes(self) -> int:
        """Bytes of embeddings that are kept, of each model."""
        return int(self.cache_mb * 1e6)

    @property
    def local(self) -> bool:
        """Whether only programs of this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address stands for this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin(url: str) -> str | None:
    """Return scheme, host and port of an http or https url; None for what is none."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"
