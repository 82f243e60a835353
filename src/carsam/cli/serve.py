"""`carsam serve`: a model for annotation tools and other programs, over HTTP."""

import os

from carsam.cli.options import Common, EngineName
from carsam.errors import UserError
from carsam.extras import require

TOKEN_VARIABLE = "CARSAM_TOKEN"
IMAGES_TOKEN_VARIABLE = "CARSAM_IMAGES_TOKEN"


def serve(
    model: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    engine: EngineName = "auto",
    workers: int = 2,
    queue: int = 64,
    timeout: float = 120,
    upload_mb: float = 32,
    bodies_mb: float = 256,
    cache_mb: float = 512,
    images_from: str | None = None,
    common: Common | None = None,
) -> None:
    """Serve a model over HTTP, for Label Studio, X-AnyLabeling and programs of your own.

    Where $CARSAM_TOKEN is set, requests must know it. $CARSAM_IMAGES_TOKEN is sent to where images
    are fetched from.

    Args:
        model: folder of a quantized model, sam-mini-w4a4 (bundled), or a float model.
        host: address to listen at; the default is reached from this machine only.
        port: port to listen at; 0 takes a free one.
        engine: the arithmetic to run the model with.
        workers: requests that are computed at the same time.
        queue: requests that may wait; more of them are told to come again.
        timeout: seconds that a request may take to arrive, and again to be answered.
        upload_mb: million bytes that a request may have.
        bodies_mb: million bytes that all requests in memory may have together.
        cache_mb: million bytes of embeddings to keep.
        images_from: address of the program whose images may be fetched, such as
            http://localhost:8080 for Label Studio; unless given, no image is.
    """
    options = common or Common()
    options.prepare()
    require("serve")
    from carsam.serve.segmenter import Segmenter
    from carsam.serve.server import serve as serve_model
    from carsam.serve.settings import Settings

    settings = Settings(
        host=host,
        port=port,
        token=os.environ.get(TOKEN_VARIABLE) or None,
        workers=workers,
        queue=queue,
        timeout=timeout,
        upload_mb=upload_mb,
        bodies_mb=bodies_mb,
        cache_mb=cache_mb,
        images_from=images_from,
        images_token=os.environ.get(IMAGES_TOKEN_VARIABLE) or None,
    )
    if settings.images_token is not None and images_from is None:
        raise UserError(f"${IMAGES_TOKEN_VARIABLE} is set, but --images-from is not given.")
    with options.progress() as progress:
        if settings.token is None and not settings.local:
            progress.warn(
                f"Whoever reaches {host} can use the server; set {TOKEN_VARIABLE} to ask for a "
                "token."
            )
        cache_bytes = int(settings.cache_mb * 1e6)
        segmenter = Segmenter(model, engine, options.device, cache_bytes, progress.warn)
        serve_model(
            segmenter,
            settings,
            lambda address: print(f"Serving {segmenter.name} at {address}", flush=True),
        )
