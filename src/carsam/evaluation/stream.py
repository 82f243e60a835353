"""Images through engines, one after the other: of every mask only its encoding and IoUs stay."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from carsam.engines.base import Engine
from carsam.errors import TooManyPixelsError, UserError
from carsam.evaluation import masks
from carsam.evaluation.coco_data import Annotation, CocoData, CocoImage
from carsam.evaluation.detections import Detection
from carsam.evaluation.ids import Id
from carsam.evaluation.prompts import PromptKind, Request
from carsam.evaluation.scores import ScoreRule
from carsam.evaluation.warning_log import WarningLog
from carsam.images.preprocess import Frame
from carsam.images.prompts import Prompts
from carsam.images.read import read_image
from carsam.predict.embeddings import EmbeddingCache
from carsam.predict.predictor import SamPredictor
from carsam.progress import Progress


@dataclass(frozen=True)
class Prediction:
    """One mask of one engine.

    `iou` is the mask's IoU with the object meant and `best_iou` the best of the engine's masks for
    the prompt; both are None, like `annotation`, where a detector made the prompt.
    """

    image_id: Id
    category_id: Id
    annotation: Annotation | None
    rle: masks.Rle
    predicted_iou: float
    score: float
    iou: float | None
    best_iou: float | None


@dataclass
class Run:
    """What one engine did: its predictions in the order of the prompts, and its own seconds."""

    engine: Engine
    predictions: list[Prediction] = field(default_factory=list)
    seconds: float = 0.0


def run_engines(
    engines: Sequence[Engine],
    data: CocoData,
    image_folder: Path,
    kind: PromptKind,
    rule: ScoreRule,
    *,
    detections: Mapping[Id, Sequence[Detection]],
    log: WarningLog,
    cache: EmbeddingCache | None,
    progress: Progress,
    chunk: int,
) -> tuple[list[Run], CocoData]:
    """Run the same prompts on every engine.

    Args:
        engines: what to run; each sees every image once.
        data: images and annotations.
        image_folder: where the images are.
        kind: how to prompt.
        rule: how to score.
        detections: a detector's boxes by image id; empty for other prompts.
        log: hears of images left out and boxes not prompted.
        cache: embeddings to use and extend, if any.
        progress: advanced once per image.
        chunk: prompts decoded together; bounds memory.

    Returns:
        One run per engine, and the part of `data` that was run.
    """
    predictors = [SamPredictor(engine, cache) for engine in engines]
    runs = [Run(predictor.engine) for predictor in predictors]
    done = set()
    progress.start("Evaluating", len(data.images))
    for image in data.images:
        pixels = _read(image, image_folder, log)
        if pixels is not None:
            done.add(image.id)
            requests = kind.requests(
                image, data.of_image(image.id), detections.get(image.id, ()), log
            )
            for predictor, run in zip(predictors, runs, strict=True):
                _run_image(predictor, run, pixels, requests, kind, rule, chunk)
        log.tell(progress)
        progress.advance(note=image.file_name)
    progress.finish()
    log.tell(progress, last=True)
    return runs, data.restricted(done)


def _read(image: CocoImage, folder: Path, log: WarningLog) -> np.ndarray | None:
    """Return the image (H, W, 3) uint8, or None with a named warning."""
    try:
        pixels = read_image(
            folder / image.file_name, warn=lambda _: log.add("deep-image", image.file_name)
        )
    except TooManyPixelsError:
        log.add("too-large-image", image.file_name)
        return None
    except UserError:
        log.add("unreadable-image", image.file_name)
        return None
    if pixels.shape[:2] != (image.height, image.width):
        log.add("image-size", image.file_name)
        return None
    return pixels


def _run_image(
    predictor: SamPredictor,
    run: Run,
    pixels: np.ndarray,
    requests: Sequence[Request],
    kind: PromptKind,
    rule: ScoreRule,
    chunk: int,
) -> None:
    if not requests:
        return
    started = time.perf_counter()
    predictor.set_image(pixels)
    run.seconds += time.perf_counter() - started
    for part in _chunks(requests, chunk):
        started = time.perf_counter()
        candidates, predicted_ious, _ = predictor.predict_prompts(
            _prompts(part, predictor.frame), kind.multimask_output, chunk=chunk
        )
        run.seconds += time.perf_counter() - started
        if not np.isfinite(predicted_ious).all():
            raise UserError(
                f"The {run.engine.mode} engine predicts an IoU that is not finite on image "
                f"{part[0].image_id}. Its weights are damaged; load or quantize the model again."
            )
        run.predictions += [
            _prediction(request, masks_of_prompt, ious_of_prompt, rule)
            for request, masks_of_prompt, ious_of_prompt in zip(
                part, candidates, predicted_ious, strict=True
            )
        ]


def _chunks(requests: Sequence[Request], chunk: int) -> Iterator[Sequence[Request]]:
    return (requests[start : start + chunk] for start in range(0, len(requests), chunk))


def _prompts(requests: Sequence[Request], frame: Frame) -> Prompts:
    """Return requests of one kind as prompts in the frame; objects of a pixel are meant as such."""
    if requests[0].box is not None:
        boxes = np.array([request.box for request in requests], np.float32)
        return Prompts(boxes=frame.map_boxes(boxes))
    points = np.array([request.point for request in requests], np.float32)[:, None]  # (P, 1, 2)
    return Prompts(frame.map_points(points), np.ones(points.shape[:2], np.int64))


def _prediction(
    request: Request, candidates: np.ndarray, predicted_ious: np.ndarray, rule: ScoreRule
) -> Prediction:
    """Choose among one prompt's masks (C, H, W) by predicted IoU (C,)."""
    chosen = int(predicted_ious.argmax())
    predicted_iou = float(predicted_ious[chosen])
    encoded = [masks.encode(mask) for mask in candidates]
    truth = request.truth
    ious = None if truth is None else [masks.iou(rle, truth) for rle in encoded]
    return Prediction(
        request.image_id,
        request.category_id,
        request.annotation,
        encoded[chosen],
        predicted_iou,
        rule.score(request, predicted_iou),
        None if ious is None else ious[chosen],
        None if ious is None else max(ious),
    )
