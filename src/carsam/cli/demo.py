"""`carsam demo`: a page to click on."""

from carsam.cli.options import Common, EngineName
from carsam.cli.serving import Serving
from carsam.extras import require


def demo(
    model: str,
    /,
    *,
    against: str | None = None,
    engine: EngineName = "auto",
    serving: Serving | None = None,
    common: Common | None = None,
) -> None:
    """Serve a page on which a photo is segmented with clicks and boxes (needs the extra `serve`).

    Where $CARSAM_TOKEN is set, the browser asks for it as a password; any name will do.

    Args:
        model: folder of a quantized model, sam-mini-w4a4 (bundled), or a float model.
        against: another of these, whose masks, times and size are shown beside it.
        engine: the arithmetic to run the model with; the other one is run with its best.
    """
    options = common or Common()
    options.prepare()
    require("serve")
    from carsam.demo.app import make_demo
    from carsam.serve.segmenter import Segmenter
    from carsam.serve.server import serve as run_server

    with options.progress() as progress:
        settings = (serving or Serving()).settings(progress)
        wanted = [(model, engine), *([(against, "auto")] if against is not None else [])]
        segmenters = [
            Segmenter(name, arithmetic, options.device, settings.cache_bytes, progress.warn)
            for name, arithmetic in wanted
        ]
        run_server(
            make_demo(segmenters, settings),
            settings,
            lambda address: print(f"Open {address} in a browser", flush=True),
        )
