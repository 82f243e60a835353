"""Bodies of requests: how much of them may be in memory, and how long they may take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from carsam.serve.refusals import Gone, Refused, wrong


class Uploads:
    """Reads the bodies of requests within limits.

    Args:
        largest: bytes of one.
        together: bytes of all that are in memory.
        timeout: seconds in which one must have arrived.

    Attributes:
        nbytes: bytes in memory.
    """

    def __init__(self, largest: int, together: int, timeout: float) -> None:
        self._largest, self._together, self._timeout = largest, together, timeout
        self.nbytes = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Give a request's body; its bytes count until the context is left.

        Raises:
            Refused: it is too large, too slow, or there are too many at this time.
            Gone: the client is gone.
        """
        parts: list[bytes] = []
        size = 0
        try:
            self._check(_announced(request))
            async with asyncio.timeout(self._timeout):
                async for part in request.stream():
                    self._check(size + len(part), size)
                    size += len(part)
                    self.nbytes += len(part)
                    parts.append(part)
            body = b"".join(parts)
            parts.clear()
            yield body
        except TimeoutError:
            raise Refused(
                408, "slow_upload", f"The request did not arrive within {self._timeout:g} seconds."
            ) from None
        except ClientDisconnect:
            raise Gone from None
        finally:
            self.nbytes -= size

    def _check(self, size: int, counted: int = 0) -> None:
        """Refuse a body of `size` bytes, of which `counted` are in `nbytes`."""
        if size > self._largest:
            raise Refused(
                413,
                "too_large",
                f"The request has more than {self._largest} bytes, the most that is accepted. "
                "Shrink the image, or start the server with a larger --upload-mb.",
            )
        if self.nbytes - counted + size > self._together:
            raise Refused(503, "busy", "Too many uploads at this time; try again later.", 1)


def _announced(request: Request) -> int:
    """Return the bytes that a request says it has; 0 if it does not say."""
    text = request.headers.get("content-length", "0")
    if not (text.isascii() and text.isdecimal()):
        raise wrong("Content-Length is no number.")
    return int(text[:20])
