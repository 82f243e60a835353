"""`carsam export`: a quantized model in the form that other programs read."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from carsam.cli.options import Common
from carsam.errors import UserError
from carsam.extras import require
from carsam.progress import Progress


def export(
    run: Path,
    /,
    *,
    onnx: Path | None = None,
    hf: Path | None = None,
    fast: Annotated[bool, Parameter(negative="")] = False,
    images: Path | None = None,
    count: int = 4,
    force: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """Write a quantized model for other programs.

    Args:
        run: folder of the quantized model, or sam-mini-w4a4 (bundled).
        onnx: folder that gets encoder and decoder for ONNX Runtime, which samexporter, labelme,
            AnyLabeling and X-AnyLabeling load (needs the extra `onnx`).
        hf: folder that `from_pretrained` of transformers loads after `import carsam.hugging_face`
            (needs the extra `quantize`).
        fast: with --onnx, models that take about 0.85 of the time and give other masks than the
            run; unless given, they give its embeddings to the bit, and its masks.
        images: with --onnx, photos to compare with carsam on; drawn scenes unless given.
        count: with --onnx, how many of them.
        force: replace an earlier export in DIR.
    """
    options = common or Common()
    options.prepare()
    if onnx is None and hf is None:
        raise UserError("Found nothing to write; give --onnx DIR or --hf DIR.")
    if hf is not None:
        _to_hugging_face(run, hf, force)
    with options.progress() as progress:
        if onnx is not None:
            _to_onnx(run, onnx, fast, images, count, force, progress)


def _to_hugging_face(run: Path, folder: Path, force: bool) -> None:
    require("quantize", "torch", "transformers")
    from carsam.hugging_face import export

    export(run, folder, force)
    print(f"{folder}: from_pretrained loads it after `import carsam.hugging_face`.")


def _to_onnx(
    run: Path,
    folder: Path,
    fast: bool,
    images: Path | None,
    count: int,
    force: bool,
    progress: Progress,
) -> None:
    require("onnx")
    from carsam.export.onnx.write import write_onnx

    print(write_onnx(run, folder, not fast, images, count, force, progress))
