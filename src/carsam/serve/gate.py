"""Who may ask: checked before anything of a request is read."""

import base64
import binascii
import hmac
import time
from collections.abc import Mapping
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from carsam.serve.answers import answer, refusal
from carsam.serve.metrics import Metrics
from carsam.serve.refusals import Gone, Refused
from carsam.serve.settings import Settings, is_loopback

OPEN = "/health"
"""Asked by programs that watch over others, which have no token."""


class Gate:
    """Refuses strangers, and counts all answers.

    A server for this machine alone also refuses names of other hosts: a page in a browser could
    otherwise reach it by a name of its own that leads here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope["path"], Headers(scope=scope))
            await self._app(scope, receive, watched)
        except Refused as error:
            await refusal(error)(scope, receive, watched)
        except Gone:
            status = 499
            await answer({}, 499)(scope, receive, send)
        finally:
            route = getattr(scope.get("endpoint"), "__name__", "none")
            self._metrics.add(route, status or 500, time.monotonic() - start)

    def _check(self, path: str, headers: Mapping[str, str]) -> None:
        if self._settings.local and not is_loopback(_host(headers.get("host", ""))):
            raise Refused(
                421,
                "wrong_host",
                "This server answers programs of its own machine, at localhost or 127.0.0.1. Start "
                "it with --host 0.0.0.0 to serve others, and set CARSAM_TOKEN then.",
            )
        token = self._settings.token
        if token is None or path == OPEN:
            return
        if not any(hmac.compare_digest(token.encode(), each) for each in _given(headers)):
            raise Refused(
                401,
                "unauthorized",
                "Expected the server's token, as Authorization: Bearer, as header Token, or as the "
                "password of basic authentication.",
            )


def _host(header: str) -> str:
    """Return the name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def _given(headers: Mapping[str, str]) -> list[bytes]:
    """Return what a request may mean as its token."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    given = [headers.get("token", "").encode("latin-1")]
    if scheme.lower() == "bearer":
        given.append(value.strip().encode("latin-1"))
    if scheme.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            given.append(base64.b64decode(value, validate=True).partition(b":")[2])
    return given
