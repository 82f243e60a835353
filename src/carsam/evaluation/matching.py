"""Which predicted mask finds which object, kept per image, so that AP of any resample is a sum.

COCO matches within one image and category; images only meet when scores are sorted. The matches
of all images and one weight per image therefore give AP without matching again.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.ids import count_from_one
from carsam.evaluation.masks import ScoredMask

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_MASKS = 100
"""IoU thresholds, recalls at which precision is read, and masks per image and category: COCO's."""

NOTHING, OBJECT, CROWD = 0, 1, 2
"""What a predicted mask finds."""

CELLS = 250_000
"""Floats per array when resamples are computed together: bounds memory, and fits the cache."""


@dataclass(frozen=True)
class CategoryMatches:
    """Predictions of one category, best score first.

    Args:
        image: (D,) position of each prediction's image in `CocoData.images`.
        true: (T, D) bool: found an object, by IoU threshold.
        false: (T, D) bool: found none. Neither true nor false: fell into a crowd.
        objects: (I,) number of objects, crowds not counted, by image.
    """

    image: np.ndarray
    true: np.ndarray
    false: np.ndarray
    objects: np.ndarray


MatchTable = tuple[CategoryMatches, ...]
"""One entry for each category with objects or predictions."""


def match_table(
    data: CocoData,
    predictions: Sequence[ScoredMask],
    ious: Mapping[tuple[int, int], np.ndarray],
) -> MatchTable:
    """Match predictions with objects, for objects of all sizes.

    Args:
        data: the images.
        predictions: in the order in which they were given to COCO's evaluation.
        ious: its IoUs by the numbers of image and category, counted from one in the order of
            `data`: rows are predictions by falling score, columns are annotations.
    """
    images = count_from_one(image.id for image in data.images)
    categories = count_from_one(data.category_ids)
    scores = defaultdict(list)
    crowds = defaultdict(list)
    for prediction in predictions:
        key = images[prediction.image_id], categories[prediction.category_id]
        scores[key].append(prediction.score)
    for annotation in data.annotations:
        key = images[annotation.image_id], categories[annotation.category_id]
        crowds[key].append(annotation.crowd)
    pairs = defaultdict(set)
    for image, category in [*scores, *crowds]:
        pairs[category].add(image)
    return tuple(
        _category_matches(
            [
                (
                    image - 1,
                    np.array(scores[image, category]),
                    np.array(crowds[image, category], bool),
                    ious[image, category],
                )
                for image in sorted(pairs[category])
            ],
            len(images),
        )
        for category in sorted(pairs)
    )


def average_precision(table: MatchTable, weights: np.ndarray) -> np.ndarray:
    """Return COCO AP with every image counted `weights` times.

    Copies of an image count as images of their own; predictions of equal score keep their order,
    copies side by side.

    Args:
        table: matches of I images.
        weights: (B, I) whole numbers, one row per resample.

    Returns:
        (B,) AP from 0 to 1; nan where a resample has no object.
    """
    total = np.zeros(len(weights))
    categories = np.zeros(len(weights))
    for matches in table:
        rows = max(1, CELLS // max(1, matches.true.size))
        for start in range(0, len(weights), rows):
            chunk = slice(start, start + rows)
            present = weights[chunk] @ matches.objects > 0
            total[chunk] += np.where(present, _category_precision(matches, weights[chunk]), 0)
            categories[chunk] += present
    return np.divide(total, categories, out=np.full_like(total, np.nan), where=categories > 0)


def _category_matches(
    images: Sequence[tuple[int, np.ndarray, np.ndarray, np.ndarray]], image_count: int
) -> CategoryMatches:
    """Join the (position, scores, crowds, ious) of the images of one category."""
    objects = np.zeros(image_count, np.int64)
    position_parts, score_parts, found_parts = [], [], []
    for position, scores, crowds, ious in images:
        objects[position] = np.count_nonzero(~crowds)
        ordered = np.sort(-scores)[:MOST_MASKS]
        score_parts.append(ordered)
        position_parts.append(np.full(len(ordered), position))
        found_parts.append(_match(np.reshape(ious, (len(ordered), len(crowds))), crowds))
    order = np.argsort(np.concatenate(score_parts), kind="stable")
    found = np.concatenate(found_parts, axis=1)[:, order]
    return CategoryMatches(
        np.concatenate(position_parts)[order], found == OBJECT, found == NOTHING, objects
    )


def _match(ious: np.ndarray, crowds: np.ndarray) -> np.ndarray:
    """Return what each of D predictions finds at each threshold, (T, D), COCO's greedy way.

    By falling score, a prediction takes the free object of highest IoU (the last of equals) at or
    above the threshold; failing that, it falls into a crowd of at least that IoU, which never
    fills up.
    """
    found = np.full((len(THRESHOLDS), len(ious)), NOTHING)
    if len(crowds) == 0:
        return found
    free = np.repeat(~crowds[None], len(THRESHOLDS), axis=0)  # (T, G)
    every_threshold = np.arange(len(THRESHOLDS))
    for prediction, row in enumerate(ious):
        reaches = row >= THRESHOLDS[:, None]  # (T, G)
        candidates = np.where(reaches & free, row, -1.0)[:, ::-1]
        best = len(row) - 1 - candidates.argmax(axis=1)
        takes = (reaches & free).any(axis=1)
        free[every_threshold[takes], best[takes]] = False
        falls = (reaches & crowds).any(axis=1)
        found[:, prediction] = np.where(takes, OBJECT, np.where(falls, CROWD, NOTHING))
    return found


def _category_precision(matches: CategoryMatches, weights: np.ndarray) -> np.ndarray:
    """Return one category's AP (B,): precision, made monotone, read at COCO's recalls."""
    if len(matches.image) == 0:
        return np.zeros(len(weights))
    counts = weights[:, None, matches.image]  # (B, 1, D)
    true = np.cumsum(counts * matches.true, axis=2, dtype=np.float64)  # (B, T, D)
    false = np.cumsum(counts * matches.false, axis=2, dtype=np.float64)
    precision = true / (true + false + np.spacing(1))
    precision = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    objects = np.maximum(weights @ matches.objects, 1)[:, None, None]
    reached = np.searchsorted(RECALLS, true / objects, side="right")  # recalls up to this one
    newly_reached = np.diff(reached, axis=2, prepend=0)
    return (newly_reached * precision).sum(axis=2).mean(axis=1) / len(RECALLS)
