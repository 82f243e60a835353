"""The routes of a server, and the way of a request through its limits."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from carsam.errors import TooManyPixelsError, UserError
from carsam.serve import label_studio, own, x_anylabeling
from carsam.serve.answers import answer, failure, refusal
from carsam.serve.asked import Answer, Asked
from carsam.serve.gate import Gate
from carsam.serve.metrics import CONTENT_TYPE, Metrics
from carsam.serve.refusals import Refused
from carsam.serve.segmenter import Segmenter
from carsam.serve.settings import Settings
from carsam.serve.uploads import Uploads
from carsam.serve.work import Work

ANSWERS: dict[str, Answer] = {**own.ANSWERS, **label_studio.ANSWERS, **x_anylabeling.ANSWERS}
"""What answers a POST to each path."""


def make_app(segmenter: Segmenter, settings: Settings) -> Starlette:
    """Return the application that serves a model."""
    megabyte = 1e6
    uploads = Uploads(
        int(settings.upload_mb * megabyte), int(settings.bodies_mb * megabyte), settings.timeout
    )
    work = Work(settings.workers, settings.queue, settings.timeout)
    metrics = Metrics()

    def quick(find: Callable[..., dict[str, Any]], name: str) -> Callable:
        """Return an endpoint for what needs no body and no computing."""

        async def endpoint(request: Request) -> Response:
            return answer(find(Asked(segmenter, settings, b"", False), **request.path_params))

        endpoint.__name__ = name
        return endpoint

    def computed(respond: Answer, name: str) -> Callable:
        async def endpoint(request: Request) -> Response:
            work.check()
            async with uploads.read(request) as body:
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                asked = Asked(segmenter, settings, body, kind == "application/json")
                return answer(await work.run(partial(respond, asked), _leaving(request)))

        endpoint.__name__ = name
        return endpoint

    async def health(request: Request) -> Response:
        return answer(
            {
                "status": "UP",
                "model": segmenter.name,
                "model_class": "carsam",
                "engine": segmenter.engine.mode,
                "replaced": segmenter.replaced,
                "models_loaded": 1,
            }
        )

    async def metrics_text(request: Request) -> Response:
        text = metrics.text(segmenter, work, uploads)
        return PlainTextResponse(text, headers={"Content-Type": CONTENT_TYPE})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        work.close()

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", metrics_text),
            Route("/api/images/{key}", quick(own.find_image, "find_image")),
            Route("/v1/models", quick(x_anylabeling.models, "models")),
            Route("/v1/models/{model}/info", quick(x_anylabeling.model_info, "model_info")),
            *(
                Route(path, computed(respond, path), methods=["POST"])
                for path, respond in ANSWERS.items()
            ),
        ],
        middleware=[Middleware(Gate, settings=settings, metrics=metrics)],
        exception_handlers={
            Refused: _refused,
            UserError: _user_error,
            MemoryError: _no_memory,
            HTTPException: _http_error,
            Exception: _own_error,
        },
        lifespan=lifespan,
    )


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
