"""`carsam serve`: a model for annotation tools and other programs, over HTTP."""

import os

from carsam.cli.options import Common, EngineName
from carsam.cli.serving import Serving
from carsam.errors import UserError
from carsam.extras import require

IMAGES_TOKEN_VARIABLE = "CARSAM_IMAGES_TOKEN"


def serve(
    model: str,
    /,
    *,
    engine: EngineName = "auto",
    images_from: str | None = None,
    serving: Serving | None = None,
    common: Common | None = None,
) -> None:
    """Serve a model over HTTP, for Label Studio, X-AnyLabeling and programs of your own.

    Where $CARSAM_TOKEN is set, requests must know it. $CARSAM_IMAGES_TOKEN is sent to where images
    are fetched from.

    Args:
        model: folder of a quantized model, sam-mini-w4a4 (bundled), or a float model.
        engine: the arithmetic to run the model with.
        images_from: address of the program whose images may be fetched, such as
            http://localhost:8080 for Label Studio; unless given, no image is.
    """
    options = common or Common()
    options.prepare()
    require("serve")
    from carsam.serve.app import make_app
    from carsam.serve.segmenter import Segmenter
    from carsam.serve.server import serve as run_server

    images_token = os.environ.get(IMAGES_TOKEN_VARIABLE) or None
    if images_token is not None and images_from is None:
        raise UserError(f"${IMAGES_TOKEN_VARIABLE} is set, but --images-from is not given.")
    with options.progress() as progress:
        settings = (serving or Serving()).settings(
            progress, images_from=images_from, images_token=images_token
        )
        segmenter = Segmenter(model, engine, options.device, settings.cache_bytes, progress.warn)
        run_server(
            make_app(segmenter, settings),
            settings,
            lambda address: print(f"Serving {segmenter.name} at {address}", flush=True),
        )
