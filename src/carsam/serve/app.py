"""The routes of a server."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from carsam.serve import label_studio, own, x_anylabeling
from carsam.serve.asked import Answer
from carsam.serve.metrics import CONTENT_TYPE
from carsam.serve.segmenter import Segmenter
from carsam.serve.service import Service, route
from carsam.serve.settings import Settings

ANSWERS: dict[str, Answer] = {**own.ANSWERS, **label_studio.ANSWERS, **x_anylabeling.ANSWERS}
"""What answers a POST to each path."""


def make_app(segmenter: Segmenter, settings: Settings) -> Starlette:
    """Return the application that serves a model."""
    service = Service(settings)

    async def metrics(request: Request) -> Response:
        text = service.metrics.text(segmenter, service.lanes, service.uploads)
        return PlainTextResponse(text, headers={"Content-Type": CONTENT_TYPE})

    return service.application(
        [
            route("GET", "/metrics", metrics),
            service.found("/health", segmenter, own.health),
            service.found("/api/images/{key}", segmenter, own.find_image),
            service.found("/v1/models", segmenter, x_anylabeling.models),
            service.found("/v1/models/{model}/info", segmenter, x_anylabeling.model_info),
            *service.computed(ANSWERS, segmenter),
        ]
    )
