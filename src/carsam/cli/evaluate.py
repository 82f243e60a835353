"""`carsam evaluate`: COCO or DAVIS numbers of a model, the former beside the float model's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

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
from carsam.formats.journal import remove_journals
from carsam.progress import Progress
from carsam.video.predictor import video_engine

FILE_ADVICE = "Give a file in a folder you may write to."


def evaluate(
    model: str,
    /,
    *,
    json: Path,
    coco: Path | None = None,
    images: Path | None = None,
    davis: Path | None = None,
    year: Literal["2016", "2017"] = "2016",
    prompts: str | None = None,
    detections: Path | None = None,
    score: str = "predicted-iou",
    engine: EngineName = "auto",
    image_size: int | None = None,
    memory_frames: int | None = None,
    compare: str = "auto",
    limit: int | None = None,
    record: Annotated[bool, Parameter(negative="")] = False,
    cache: Path | None = None,
    predictions: Path | None = None,
    instances: Path | None = None,
    polygons: Path | None = None,
    label_studio: Path | None = None,
    common: Common | None = None,
) -> None:
    """Measure a model's masks against COCO's or DAVIS's annotations (needs the extra `quantize`).

    Args:
        model: folder of a quantized model, sam-mini-w4a4 (bundled), or a float model.
        json: where the result goes.
        coco: COCO instances json.
        images: folder of its images.
        davis: videos with masks in the layout of DAVIS or SA-V, instead of `--coco`; an evaluation
            that was stopped goes on after the last whole sequence.
        year: protocol of DAVIS; in 2016 all objects are one.
        prompts: for COCO boxes (ground truth; unless given), clicks, or detections; for DAVIS masks
            (unless given), boxes, or clicks, all from an object's first true mask.
        detections: a detector's result json, for `--prompts detections`.
        score: what ranks the masks: predicted-iou, constant, or detector-times-iou.
        engine: the arithmetic to run the model with.
        image_size: side of a float model's inputs, in pixels; its own unless given.
        memory_frames: for DAVIS, frames that are recalled beside those with prompts; all that the
            model was trained with unless given.
        compare: float model to run beside it: auto is the one MODEL was made from, with inputs as
            large; or none.
        limit: evaluate only so many images.
        record: also write the numbers into MODEL's carsam.json, where `carsam info` shows them.
        cache: folder of embeddings to use and extend; $CARSAM_CACHE unless given.
        predictions: where the masks go as COCO results, which pycocotools and others evaluate.
        instances: where they go as a COCO instances json, with boxes, areas and categories.
        polygons: where that goes with polygons in place of run lengths.
        label_studio: where they go as tasks of Label Studio.
    """
    options = common or Common()
    options.prepare()
    require("quantize", "faster_coco_eval")
    from carsam.annotation.of_evaluation import write_masks
    from carsam.evaluation.evaluate import evaluate as measure

    mask_files = {
        "predictions": predictions,
        "instances": instances,
        "polygons": polygons,
        "label-studio": label_studio,
    }
    asked = {form: path for form, path in mask_files.items() if path is not None}
    for path in (json, *asked.values()):
        check_writable(path, FILE_ADVICE)
    if len({path.resolve() for path in (json, *asked.values())}) <= len(asked):
        raise UserError("Two of the files to write are the same; give each a name of its own.")
    if davis is not None:
        if coco or images or detections or record or limit or cache or asked:
            raise UserError(
                "--davis takes none of --coco --images --detections --record --limit --cache "
                f"{' '.join(f'--{form}' for form in mask_files)}; leave them away."
            )
        loading = {"engine": engine, "image_size": image_size}
        following = {"year": year, "prompts": prompts or "masks", "memory_frames": memory_frames}
        _evaluate_davis(model, davis, json, loading, following, options)
        return
    if memory_frames is not None:
        raise UserError("--memory-frames is for --davis alone; leave it away.")
    if coco is None or images is None:
        raise UserError("Give --coco with --images, or --davis, to measure against.")
    prompts = prompts or "boxes"
    if record:
        manifest = standing(model) / MANIFEST_FILE
        if not manifest.exists():
            raise UserError(
                f"{model} is no folder of a quantized model, so --record has no place to write to."
            )
        check_writable(manifest, "Leave --record away, or copy the model to another folder.")
    with options.progress() as progress:
        loaded = load(model, engine, options.device, progress.warn, image_size=image_size)
        result = measure(
            loaded,
            coco,
            images,
            prompts=prompts,
            score=score,
            detections=detections,
            float_engine=_float_engine(model, compare, loaded, options.device, progress),
            model=model,
            limit=limit,
            seed=options.seed,
            cache=embedding_cache(cache, progress),
            progress=progress,
        )
    result.save(json)
    for form, path in asked.items():
        write_masks(result, form, path)
    document = result.to_json()
    if record:
        keys = ("coco", "mean_iou", "engine", "mode", "images", "instances", "ids_sha256")
        metrics = read_checkpoint(model).manifest.get("metrics", {})
        numbers = {key: document[key] for key in keys}
        update_manifest(model, {"metrics": {**metrics, f"{coco.stem}.{prompts}": numbers}})
    Terminal().print(_table(document))
    print(f"Result: {json}")
    for path in asked.values():
        print(f"Masks: {path}")


def _evaluate_davis(
    model: str,
    root: Path,
    json: Path,
    loading: dict[str, Any],
    following: dict[str, Any],
    options: Common,
) -> None:
    """Follow the objects of all sequences, write the result and print its numbers.

    Args:
        loading, following: options of `load` and of `evaluate_davis`.
    """
    from carsam.evaluation.davis import evaluate_davis
    from carsam.evaluation.davis.evaluate import JOURNAL

    with options.progress() as progress:
        loaded = load(model, device=options.device, warn=progress.warn, **loading)
        result = evaluate_davis(
            video_engine(loaded),
            root,
            **following,
            model=model,
            target=json,
            progress=progress,
            seed=options.seed,
        )
    result.save(json)
    remove_journals(json, JOURNAL)
    title = f"{len(result.sequences)} sequences, DAVIS {result.year}, {result.prompts}"
    if result.memory_frames is not None:
        title += f", {result.memory_frames} memories"
    table = Table("", result.mode, title=title)
    table.add_row("J&F", _with_interval(result.J_and_F, result.intervals["J_and_F"]))
    for name, numbers in (("J", result.J), ("F", result.F)):
        table.add_row(name, _with_interval(numbers["mean"], result.intervals[name]))
        for part in ("recall", "decay"):
            table.add_row(f"{name} {part}", _with_interval(numbers[part], None))
    Terminal().print(table)
    print(f"Result: {json}")


def _float_engine(
    model: str, compare: str, engine: Engine, device: str, progress: Progress
) -> Engine | None:
    """Return the float model to compare a model's engine with, or None."""
    if compare == "none":
        return None
    if compare != "auto":
        return load(compare, "float", device, progress.warn)
    if not is_run(model):
        return None
    source = read_checkpoint(model).manifest["source"]
    try:
        return load(source, "float", device, progress.warn, image_size=engine.framing.side)
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
