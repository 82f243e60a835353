"""Mean IoU by size of object, and how far two runs of the same prompts agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carsam.evaluation import masks
from carsam.evaluation.coco_data import SIZES
from carsam.evaluation.stream import Prediction


@dataclass(frozen=True)
class Agreement:
    """How far a run agrees with another.

    Args:
        mask_ious: (N,) IoU of the two masks of every prompt; two empty masks agree: 1.
        rank_correlation: Spearman's, of the predicted IoUs; None if one side is constant.
    """

    mask_ious: np.ndarray
    rank_correlation: float | None


def agreement(run: Sequence[Prediction], other: Sequence[Prediction]) -> Agreement:
    """Compare two runs prompt by prompt; they hold the same prompts in the same order."""
    mask_ious = [masks.iou(mine.rle, theirs.rle) for mine, theirs in zip(run, other, strict=True)]
    correlation = rank_correlation(
        np.array([prediction.predicted_iou for prediction in run]),
        np.array([prediction.predicted_iou for prediction in other]),
    )
    return Agreement(np.array(mask_ious), correlation)


def mean_by_size(values: np.ndarray, sizes: Sequence[str]) -> dict[str, float | None]:
    """Return the mean of `values` (N,) over each size's instances; None where there are none."""
    members = {size: np.array([item == size for item in sizes], bool) for size in SIZES}
    return {size: mean(values[chosen]) for size, chosen in members.items()}


def mean(values: np.ndarray) -> float | None:
    """Return the mean of `values` (N,); None of nothing."""
    return float(values.mean()) if len(values) else None


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return Spearman's rank correlation of two series (N,); equal values share their mean rank.

    None if a series is constant or shorter than two.
    """
    first_ranks, second_ranks = _centred_ranks(first), _centred_ranks(second)
    norm = np.sqrt((first_ranks**2).sum() * (second_ranks**2).sum())
    return float(first_ranks @ second_ranks / norm) if norm > 0 else None


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return mean_rank[group] - (len(values) + 1) / 2
