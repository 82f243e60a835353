"""Evaluate an engine on images with COCO annotations: the package's front door."""

import importlib.metadata
import platform
import sys
import time
from pathlib import Path

from carsam.engines.base import Engine
from carsam.errors import UserError
from carsam.evaluation.bootstrap import LEVEL, resample_weights
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.detections import read_detections
from carsam.evaluation.image_files import on_disk
from carsam.evaluation.prompts import PromptKind, prompt_kind
from carsam.evaluation.result import EvaluationResult
from carsam.evaluation.scores import score_rule
from carsam.evaluation.stream import run_engines
from carsam.evaluation.summary import compare, measure
from carsam.evaluation.warning_log import WarningLog
from carsam.predict.embeddings import EmbeddingCache
from carsam.progress import Progress, Silent
from carsam.system import peak_memory
from carsam.threads import current_threads


def evaluate(
    engine: Engine,
    coco_json: str | Path,
    image_folder: str | Path,
    *,
    prompts: str = "boxes",
    score: str = "predicted-iou",
    detections: str | Path | None = None,
    float_engine: Engine | None = None,
    model: str = "",
    limit: int | None = None,
    seed: int = 0,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
    bootstrap: int = 1000,
    chunk: int = 16,
) -> EvaluationResult:
    """Measure masks against COCO annotations, and against the float model if it is given.

    Args:
        engine: what to evaluate.
        coco_json: COCO instances json.
        image_folder: folder of its images.
        prompts: `boxes` (ground truth), `detections` or `clicks`; see `prompts.PROMPT_KINDS`.
        score: `predicted-iou`, `constant` or `detector-times-iou`; see `scores.SCORE_RULES`.
        detections: a detector's result json, for prompts `detections`.
        float_engine: run on the same prompts in the same pass, to compare with.
        model: names the model and run in the result.
        limit: evaluate only so many images, the first by file name.
        seed: of the bootstrap's resamples.
        cache: embeddings to use and extend, of both engines.
        progress: hears of every image and warning; silent by default.
        bootstrap: number of resamples for the intervals; 0 for none.
        chunk: prompts decoded together; bounds memory.

    Raises:
        UserError: Wrong options, a json that does not hold what it should, no usable image.
    """
    started = time.perf_counter()
    progress = progress or Silent()
    log = WarningLog(coco_json, detections)
    kind = prompt_kind(prompts)
    rule = score_rule(score, kind)
    _check_options(kind, detections, limit, bootstrap, chunk)
    everything = read_coco(coco_json, log)
    data = on_disk(everything, image_folder, log, limit)
    found = {} if detections is None else read_detections(detections, everything, log)
    log.tell(progress)

    runs, data = run_engines(
        [engine] if float_engine is None else [engine, float_engine],
        data,
        Path(image_folder),
        kind,
        rule,
        detections=found,
        log=log,
        cache=cache,
        progress=progress,
        chunk=chunk,
    )
    if not runs[0].predictions:
        raise UserError(
            f"Found nothing to prompt in {coco_json} with images in {image_folder}."
            f"{log.sentences()} Give annotations (or detections) and the folder of their images."
        )
    weights = resample_weights(len(data.images), bootstrap, seed)
    ours, *floats = measured = [measure(run, data, weights, kind) for run in runs]
    return EvaluationResult(
        model=model,
        accuracy=ours.accuracy,
        float_accuracy=floats[0].accuracy if floats else None,
        comparison=compare(runs, measured, data, weights) if floats else None,
        prompts=kind.name,
        score=rule.name,
        images=len(data.images),
        instances=len(runs[0].predictions),
        ids_sha256=data.ids_sha256(),
        bootstrap={"resamples": bootstrap, "seed": seed, "level": LEVEL, "unit": "image"},
        seconds=time.perf_counter() - started,
        threads=max(getattr(run.engine, "threads", current_threads()) for run in runs),
        peak_memory_mb=peak_memory() / 1e6,
        versions=_versions(),
        warnings=log.to_json(),
        predictions=runs[0].predictions,
        data=data,
    )


def _check_options(
    kind: PromptKind, detections: str | Path | None, limit: int | None, bootstrap: int, chunk: int
) -> None:
    if kind.from_detections and detections is None:
        raise UserError("Prompts 'detections' need the detector's result json; give detections=.")
    if detections is not None and not kind.from_detections:
        raise UserError(
            f"A detector's json was given, but prompts are {kind.name!r}; use prompts='detections'."
        )
    for name, value, least in (
        ("limit", limit, 1),
        ("bootstrap", bootstrap, 0),
        ("chunk", chunk, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} is {value}, expected {least} or more.")


def _versions() -> dict[str, str]:
    packages = ["carsam", "numpy", "faster-coco-eval"]
    packages += ["torch"] if "torch" in sys.modules else []
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
