"""The routes of the page: its files, and the interface of `carsam serve` for each model.

A photo, its prompts and masks live in the browser. The server keeps embeddings by the SHA-256 of
the photo's file and gives no photo to anybody: nothing of one user is there for another to see.
"""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from carsam.demo.facts import facts, thresholds
from carsam.demo.pages import page_routes, samples
from carsam.serve import own
from carsam.serve.answers import answer
from carsam.serve.segmenter import Segmenter
from carsam.serve.service import Service, route
from carsam.serve.settings import Settings

PREFIXES = ("/model", "/against")
"""Of the paths of the first and the second model."""


def make_demo(segmenters: Sequence[Segmenter], settings: Settings) -> Starlette:
    """Return the application of the page.

    Args:
        segmenters: one model, or two to show side by side.
    """
    service = Service(settings)
    models = dict(zip(PREFIXES, segmenters, strict=False))
    shown, strictness = samples(), thresholds(segmenters)
    about = {
        "models": [{"prefix": prefix, **facts(each)} for prefix, each in models.items()],
        "samples": [{"file": name, "credit": photo.credit} for name, photo in shown.items()],
        "thresholds": {
            "iou": strictness.pred_iou_thresh,
            "stability": strictness.stability_score_thresh,
        },
        "upload_bytes": settings.upload_bytes,
    }

    async def about_all(request: Request) -> Response:
        return answer(about)

    routes = [*page_routes(shown), route("GET", "/about", about_all)]
    routes.append(service.found("/health", segmenters[0], own.health))
    for prefix, segmenter in models.items():
        routes += service.computed(own.ANSWERS, segmenter, prefix)
    return service.application(routes)
