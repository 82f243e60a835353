"""The masks that a model proposes for one point after the other, and which of them are kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from carsam.engines.base import Embedding, Engine
from carsam.images.preprocess import Frame
from carsam.images.prompts import Prompts
from carsam.images.run_lengths import RunLengths
from carsam.predict.everything.points import CropBox
from carsam.predict.upscale import upscaled_strips

MASK_THRESHOLD = 0.0
"""Logits above it are the mask."""

EDGE_DISTANCE = 20
"""Pixels from a crop's border at which a mask counts as cut off there."""


@dataclass(frozen=True)
class Candidate:
    """A mask that has passed the thresholds.

    Args:
        mask: as large as the image.
        box: first column, first row, last column and last row, in pixels of the image.
        predicted_iou, stability_score: its scores, of float32.
        point: x and y that were asked, in pixels of the image.
        crop_box: the crop it was found in.
    """

    mask: RunLengths
    box: tuple[int, int, int, int]
    predicted_iou: float
    stability_score: float
    point: tuple[float, float]
    crop_box: CropBox


@dataclass(frozen=True)
class Thresholds:
    """What a mask must reach.

    Args:
        predicted_iou: it must be larger; 0 or less for none.
        stability_score: it must be as large; 0 or less for none.
        offset: half the distance between the two thresholds that the stability score compares.
    """

    predicted_iou: float
    stability_score: float
    offset: float = 1.0


@dataclass
class Tally:
    """How many candidates there were, how many passed, and the best scores.

    Attributes:
        best_stability: of those with a sufficient predicted IoU, or, where there are none, of the
            one with the highest.
    """

    count: int = 0
    confident: int = 0
    stable: int = 0
    best_iou: float = -np.inf
    best_stability: float = -np.inf
    _best: tuple[np.ndarray, Frame] | None = field(default=None, repr=False)

    def add(self, low_res: np.ndarray, ious: np.ndarray, frame: Frame) -> None:
        """Count masks (n, 4h, 4w) with predicted IoUs (n,)."""
        self.count += len(ious)
        if len(ious) and ious.max() > self.best_iou:
            self.best_iou = float(ious.max())
            self._best = low_res[ious.argmax()].copy(), frame

    def judge_best(self, offset: float) -> None:
        """Compute the stability score of the best one, if none was computed."""
        if self.confident == 0 and self._best is not None:
            self.best_stability = full_mask(*self._best, offset)[1]


def find_candidates(
    engine: Engine,
    embedding: Embedding,
    frame: Frame,
    points: np.ndarray,
    crop_box: CropBox,
    image_size: tuple[int, int],
    thresholds: Thresholds,
    tally: Tally,
) -> Iterator[Candidate]:
    """Decode points together, and yield what is good enough of the three masks of each.

    Only one mask at a time is as large as the image.

    Args:
        embedding, frame: of the crop.
        points: (n, 2), x then y in pixels of the crop.
        image_size: height and width of the whole image.
        tally: is told of every mask.
    """
    low_res, ious = decode_points(engine, embedding, frame, points)
    tally.add(low_res, ious, frame)
    left, top = crop_box[:2]
    if thresholds.predicted_iou > 0:
        chosen = np.flatnonzero(ious > np.float32(thresholds.predicted_iou))
    else:
        chosen = np.arange(len(ious))
    masks_per_point = len(ious) // len(points)
    for index in chosen:
        mask, stability = full_mask(low_res[index], frame, thresholds.offset)
        tally.confident += 1
        tally.best_stability = max(tally.best_stability, stability)
        if thresholds.stability_score > 0 and not stability >= np.float32(
            thresholds.stability_score
        ):
            continue
        tally.stable += 1
        runs = RunLengths.of_mask(mask, image_size, left, top)
        box = runs.box if runs.area else (left, top, left, top)
        if not _is_cut_off(box, crop_box, image_size):
            x, y = points[index // masks_per_point].tolist()
            point = x + left, y + top
            yield Candidate(runs, box, float(ious[index]), stability, point, crop_box)


def decode_points(
    engine: Engine, embedding: Embedding, frame: Frame, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits (3 n, 4h, 4w) and predicted IoUs (3 n,) of points (n, 2)."""
    prompts = Prompts(frame.map_points(points)[:, None], np.ones((len(points), 1), np.int64))
    low_res, ious = engine.decode(embedding, prompts, multimask_output=True)
    return low_res.reshape(-1, *low_res.shape[2:]), ious.reshape(-1)


def full_mask(low_res: np.ndarray, frame: Frame, offset: float) -> tuple[np.ndarray, float]:
    """Return a mask (H, W) bool, and its stability score.

    The score is the intersection over union of the masks at a higher and at a lower threshold
    (segment-anything's `calculate_stability_score`); NaN where both are empty.
    """
    mask = np.empty(frame.original_size, bool)
    above = below = 0
    for part, logits in upscaled_strips(low_res, frame):
        above += int(np.count_nonzero(logits > np.float32(MASK_THRESHOLD + offset)))
        below += int(np.count_nonzero(logits > np.float32(MASK_THRESHOLD - offset)))
        mask[part] = logits > MASK_THRESHOLD
    with np.errstate(invalid="ignore"):
        return mask, float(np.float32(above) / np.float32(below))


def _is_cut_off(
    box: tuple[int, int, int, int], crop_box: CropBox, image_size: tuple[int, int]
) -> bool:
    """Tell whether a box ends near the border of its crop where that is not the image's."""
    height, width = image_size
    whole = (0, 0, width, height)
    return any(
        abs(side - border) <= EDGE_DISTANCE < abs(side - outer)
        for side, border, outer in zip(box, crop_box, whole, strict=True)
    )
