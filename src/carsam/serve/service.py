"""The way of a request through the limits of a server, whichever its routes and models are."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from carsam.errors import TooManyPixelsError, UserError
from carsam.serve.answers import answer, failure, refusal
from carsam.serve.asked import Answer, Asked, Later
from carsam.serve.gate import Gate
from carsam.serve.metrics import Metrics
from carsam.serve.refusals import Refused
from carsam.serve.segmenter import Segmenter
from carsam.serve.settings import Settings
from carsam.serve.uploads import Uploads
from carsam.serve.work import Work

Endpoint = Callable[[Request], Awaitable[Response]]


class Service:
    """Answers requests within the limits of a server, which all its models share.

    There are two queues, so that a click on an image that is kept never waits for others' images
    to be encoded: whatever comes is begun in the quick one, and goes to the other if it takes long.

    Attributes:
        uploads, lanes, metrics: the bodies in memory, the queues by name, what was counted.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.uploads = Uploads(settings.upload_bytes, settings.bodies_bytes, settings.timeout)
        self._quick = Work(settings.workers, settings.queue, settings.timeout)
        self._slow = Work(settings.workers, settings.queue, settings.timeout)
        self.lanes = {"quick": self._quick, "slow": self._slow}
        self.metrics = Metrics()

    def found(self, path: str, segmenter: Segmenter, find: Callable[..., dict[str, Any]]) -> Route:
        """Return a route for what needs no body and no computing."""

        async def endpoint(request: Request) -> Response:
            asked = Asked(segmenter, self.settings, b"", False)
            return answer(find(asked, **request.path_params))

        return route("GET", path, endpoint)

    def computed(
        self, answers: Mapping[str, Answer], segmenter: Segmenter, prefix: str = ""
    ) -> list[Route]:
        """Return routes for what is computed in a thread: the answers by path, after a prefix."""
        return [
            route("POST", prefix + path, self._computed(respond, segmenter))
            for path, respond in answers.items()
        ]

    def application(self, routes: Sequence[Route]) -> Starlette:
        """Return the application with such routes."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            for lane in self.lanes.values():
                lane.close()

        return Starlette(
            routes=routes,
            middleware=[Middleware(Gate, settings=self.settings, metrics=self.metrics)],
            exception_handlers={
                Refused: _refused,
                UserError: _user_error,
                MemoryError: _no_memory,
                HTTPException: _http_error,
                Exception: _own_error,
            },
            lifespan=lifespan,
        )

    def _computed(self, respond: Answer, segmenter: Segmenter) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            self._quick.check()
            async with self.uploads.read(request) as body:
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                asked = Asked(segmenter, self.settings, body, kind == "application/json")
                quick = partial(respond, replace(asked, quick=True))
                try:
                    return answer(await self._quick.run(quick, _leaving(request)))
                except Later:
                    return answer(await self._slow.run(partial(respond, asked), _leaving(request)))

        return endpoint


def route(method: str, path: str, endpoint: Endpoint) -> Route:
    """Return a route whose endpoint is named by its path, as the counters name it."""
    endpoint.__name__ = path
    return Route(path, endpoint, methods=[method])


def _leaving(request: Request) -> Callable[[], Awaitable[None]]:
    """Return what waits until the client has closed the connection."""

    async def leaving() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return leaving


async def _refused(_: Request, error: Any) -> Response:
    return refusal(error)


async def _user_error(_: Request, error: Exception) -> Response:
    if isinstance(error, TooManyPixelsError):
        return failure(413, "too_large", str(error))
    return failure(400, "bad_request", str(error))


async def _no_memory(_: Request, error: Exception) -> Response:
    return failure(413, "too_large", "The image needs more memory than the server has.")


async def _http_error(_: Request, error: Any) -> Response:
    sentences = {
        404: "There is nothing at this path; docs/serve.md lists what there is.",
        405: "This path takes another method; docs/serve.md lists what there is.",
    }
    message = sentences.get(error.status_code, str(error.detail))
    return failure(error.status_code, "no_route", message, dict(error.headers or {}))


async def _own_error(_: Request, error: Exception) -> Response:
    return failure(500, "internal", "The server failed at this request; its log says where.")
