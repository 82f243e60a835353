"""Images of requests: never a file of this machine, and from elsewhere only where that is allowed.

Only formats that cameras, browsers and annotation tools write are read; others that Pillow knows
run programs of their own.
"""

import base64
import binascii
import re
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

from carsam.serve.refusals import Refused, wrong
from carsam.serve.settings import Settings, origin

SIGNATURES = (
    rb"\xff\xd8\xff",
    rb"\x89PNG\r\n\x1a\n",
    rb"GIF8",
    rb"BM",
    rb"II\*\x00",
    rb"MM\x00\*",
    rb"RIFF....WEBP",
)
"""How files of JPEG, PNG, GIF, BMP, TIFF (two) and WebP begin."""

_SIGNATURE = re.compile(b"|".join(SIGNATURES), re.DOTALL)

DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(;[\w.+-]+=[\w.+-]*)*;base64,", re.ASCII)

SAFE = "%/:=&?~#+!$,;'@()*[]"
"""Stays as it is in a path and a query."""

FETCH_TIMEOUT = 30
"""Seconds without an answer after which fetching ends."""


def checked_content(content: bytes) -> bytes:
    """Return the bytes of an image file.

    Raises:
        Refused: they are none.
    """
    if not _SIGNATURE.match(content):
        raise wrong(
            f"Found {len(content)} bytes that are no image; expected a JPEG, PNG, WebP, BMP, GIF "
            "or TIFF file."
        )
    return content


def from_data_uri(text: str) -> bytes:
    """Return the image in `data:image/png;base64,...`.

    Raises:
        Refused: the text is something else.
    """
    start = DATA_URI.match(text[:200])
    if start is None:
        raise wrong(
            f"Found {text[:40]!r} for an image; expected a data URI, data:image/png;base64, and "
            "the file in base64."
        )
    try:
        return checked_content(base64.b64decode(text[start.end() :], validate=True))
    except (binascii.Error, ValueError):
        raise wrong("Found a data URI that is no base64.") from None


def from_address(text: str, settings: Settings) -> bytes:
    """Return the image at a url, or at a path of `settings.images_from`; or that of a data URI.

    Raises:
        Refused: nothing may be fetched from there, or it cannot be.
    """
    if text.startswith("data:"):
        return from_data_uri(text)
    allowed = settings.images_from
    try:
        url = urljoin(allowed + "/", text) if allowed is not None else text
        parts = urlsplit(url)
    except ValueError:
        raise wrong(f"Found {text[:200]!r} for an image, which is no url.") from None
    if allowed is None or origin(url) != allowed:
        raise Refused(
            403,
            "not_allowed",
            f"Found {text[:200]!r} for an image; this server fetches images "
            + (f"from {allowed} only." if allowed else "from nowhere.")
            + " Start it with --images-from and the address of the program that has them.",
        )
    path = quote(parts.path, safe=SAFE) + (
        f"?{quote(parts.query, safe=SAFE)}" if parts.query else ""
    )
    return checked_content(_fetched(allowed + path, settings))


HANDLERS = (HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor)
"""Of urllib's; it has others that read files, ask proxies and follow redirections elsewhere."""


def _fetched(url: str, settings: Settings) -> bytes:
    largest = settings.upload_bytes
    token = settings.images_token
    headers = {} if token is None else {"Authorization": f"Token {token}"}
    opener = OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    try:
        request = Request(url, headers=headers)
        with opener.open(request, timeout=min(settings.timeout, FETCH_TIMEOUT)) as response:
            content = response.read(largest + 1)
    except HTTPError as error:
        raise _not_fetched(url, f"the status is {error.code}") from None
    except (URLError, OSError, HTTPException, ValueError) as error:
        raise _not_fetched(url, str(getattr(error, "reason", error))) from None
    if len(content) > largest:
        raise Refused(413, "too_large", f"The image at {url[:200]} has more than {largest} bytes.")
    return content


def _not_fetched(url: str, reason: str) -> Refused:
    return Refused(502, "not_fetched", f"Cannot fetch the image at {url[:200]}: {reason[:200]}.")
