"""From predictions to numbers: one engine's accuracy, and two engines compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carsam.evaluation.agreement import agreement, mean, mean_by_size
from carsam.evaluation.bootstrap import centred_interval, weighted_means
from carsam.evaluation.coco import coco_metrics
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.matching import average_precision
from carsam.evaluation.prompts import PromptKind
from carsam.evaluation.result import Accuracy, Comparison
from carsam.evaluation.stream import Prediction, Run


@dataclass(frozen=True)
class Measured:
    """An engine's numbers with their resamples (B,)."""

    accuracy: Accuracy
    average_precisions: np.ndarray
    mean_ious: np.ndarray


def measure(run: Run, data: CocoData, weights: np.ndarray, kind: PromptKind) -> Measured:
    """Return the accuracy of a run over the images of `data`, resampled by `weights` (B, I)."""
    metrics = coco_metrics(data, run.predictions)
    average_precisions = average_precision(metrics.matches, weights)
    aimed = [prediction for prediction in run.predictions if prediction.iou is not None]
    ious = np.array([prediction.iou for prediction in aimed], float)
    mean_ious = weighted_means(ious, _image_positions(aimed, data), weights)
    best = np.array([prediction.best_iou for prediction in aimed], float)
    accuracy = Accuracy(
        engine=type(run.engine).__name__,
        mode=run.engine.mode,
        image_size=run.engine.framing.side,
        coco=metrics.numbers,
        mean_iou=mean(ious),
        mean_iou_by_size=mean_by_size(ious, _sizes(aimed)),
        mean_best_iou=mean(best) if kind.multimask_output else None,
        intervals={
            "AP": centred_interval(average_precisions, metrics.numbers["AP"]),
            "mean_iou": centred_interval(mean_ious, mean(ious)),
        },
        engine_seconds=run.seconds,
    )
    return Measured(accuracy, average_precisions, mean_ious)


def compare(
    runs: Sequence[Run], measured: Sequence[Measured], data: CocoData, weights: np.ndarray
) -> Comparison:
    """Compare the first run with the second, the float model's, over the same resamples."""
    predictions = runs[0].predictions
    agreed = agreement(predictions, runs[1].predictions)
    mask_ious = weighted_means(agreed.mask_ious, _image_positions(predictions, data), weights)
    ours, floats = measured
    ap = _difference(ours.accuracy.coco["AP"], floats.accuracy.coco["AP"])
    mean_iou = _difference(ours.accuracy.mean_iou, floats.accuracy.mean_iou)
    return Comparison(
        mask_iou=mean(agreed.mask_ious),
        mask_iou_by_size=mean_by_size(agreed.mask_ious, _sizes(predictions)),
        rank_correlation=agreed.rank_correlation,
        difference={"AP": ap, "mean_iou": mean_iou},
        intervals={
            "mask_iou": centred_interval(mask_ious, mean(agreed.mask_ious)),
            "AP": centred_interval(ours.average_precisions - floats.average_precisions, ap),
            "mean_iou": centred_interval(ours.mean_ious - floats.mean_ious, mean_iou),
        },
    )


def _difference(ours: float | None, floats: float | None) -> float | None:
    return None if ours is None or floats is None else ours - floats


def _image_positions(predictions: Sequence[Prediction], data: CocoData) -> np.ndarray:
    positions = {image.id: position for position, image in enumerate(data.images)}
    return np.array([positions[prediction.image_id] for prediction in predictions], np.int64)


def _sizes(predictions: Sequence[Prediction]) -> list[str]:
    """Return the size of the object meant, "unknown" where a detector made the prompt."""
    return [
        prediction.annotation.size if prediction.annotation else "unknown"
        for prediction in predictions
    ]
