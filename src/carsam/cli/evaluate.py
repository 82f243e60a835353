"""`carsam evaluate`: COCO numbers of a model, beside those of the float model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from carsam.cli.options import Common, EngineName, embedding_cache
from carsam.cli.terminal import Terminal
from carsam.engines.base import Engine
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.extras import require
from carsam.formats.bundled import is_run
from carsam.formats.checkpoint import MANIFEST_FILE, read_checkpoint, update_manifest
from carsam.formats.files import check_writable
from carsam.formats.folders import standing
from carsam.progress import Progress


def evaluate(
    model: str,
    /,
    *,
    coco: Path,
    images: Path,
    json: Path,
    prompts: str = "boxes",
    detections: Path | None = None,
    score: str = "predicted-iou",
    engine: EngineName = "auto",
    compare: str = "auto",
    limit: int | None = None,
    record: Annotated[bool, Parameter(negative="")] = False,
    cache: Path | None = None,
    common: Common | None = None,
) -> None:
    """Measure a model's masks against COCO annotations (needs the extra `quantize`).

    Args:
        model: folder of a quantized model, sam-mini-w4a4 (bundled), or a float model.
        coco: COCO instances json.
        images: folder of its images.
        json: where the result goes.
        prompts: boxes (ground truth), clicks, or detections.
        detections: a detector's result json, for `--prompts detections`.
        score: what ranks the masks: predicted-iou, constant, or detector-times-iou.
        engine: the arithmetic to run the model with.
        compare: float model to run beside it: auto is the one MODEL was made from; or none.
        limit: evaluate only so many images.
        record: also write the numbers into MODEL's carsam.json, where `carsam info` shows them.
        cache: folder of embeddings to use and extend; $CARSAM_CACHE unless given.
    """
    options = common or Common()
    options.prepare()
    require("quantize", "faster_coco_eval")
    from carsam.evaluation.evaluate import evaluate as measure

    check_writable(json, "Give a file in a folder you may write to.")
    if record:
        manifest = standing(model) / MANIFEST_FILE
        if not manifest.exists():
            raise UserError(
                f"{model} is no folder of a quantized model, so --record has no place to write to."
            )
        check_writable(manifest, "Leave --record away, or copy the model to another folder.")
    with options.progress() as progress:
        result = measure(
            load(model, engine, options.device, progress.warn),
            coco,
            images,
            prompts=prompts,
            score=score,
            detections=detections,
            float_engine=_float_engine(model, compare, options.device, progress),
            model=model,
            limit=limit,
            seed=options.seed,
            cache=embedding_cache(cache, progress),
            progress=progress,
        )
    result.save(json)
    document = result.to_json()
    if record:
        keys = ("coco", "mean_iou", "engine", "mode", "images", "instances", "ids_sha256")
        metrics = read_checkpoint(model).manifest.get("metrics", {})
        numbers = {key: document[key] for key in keys}
        update_manifest(model, {"metrics": {**metrics, f"{coco.stem}.{prompts}": numbers}})
    Terminal().print(_table(document))
    print(f"Result: {json}")


def _float_engine(model: str, compare: str, device: str, progress: Progress) -> Engine | None:
    """Return the float model to compare with, or None."""
    if compare == "none":
        return None
    if compare != "auto":
        return load(compare, "float", device, progress.warn)
    if not is_run(model):
        return None
    source = read_checkpoint(model).manifest["source"]
    try:
        return load(source, "float", device, progress.warn)
    except UserError as error:
        progress.warn(f"Not compared with the float model {source}. {error}")
        return None


def _table(document: Mapping[str, Any]) -> Table:
    """Return the numbers, with 95 % intervals where there are any."""
    floats = document["float"]
    sides = [document, floats] if floats else [document]
    title = f"{document['images']} images, {document['instances']} {document['prompts']}"
    table = Table("", *(side["mode"] for side in sides), title=title)
    for name in (*document["coco"], "mean_iou"):
        values = ({**side["coco"], "mean_iou": side["mean_iou"]}[name] for side in sides)
        intervals = (side["intervals"].get(name) for side in sides)
        table.add_row(name, *map(_with_interval, values, intervals))
    if floats:
        agreement = document["agreement"]
        shown = _with_interval(agreement["mask_iou"], agreement["intervals"]["mask_iou"])
        table.add_row("mask IoU with float", shown, "")
    return table


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f"  [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
