"""The thresholds of everything mode that suit a quantized model, from the float one's scores.

segment-anything's thresholds, 0.88 and 0.95, were chosen for its largest model, whose best masks
have scores near 1. Smaller models score lower, and rounding moves the scores once more.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.nn import Module

from carsam.calibration.record import Calibration
from carsam.engines.base import Engine
from carsam.engines.load import resolve_device
from carsam.engines.torch_engine import TorchEngine
from carsam.families import load_model
from carsam.formats.mask_thresholds import KEY, METAS_THRESHOLDS, MaskThresholds
from carsam.images.preprocess import preprocess
from carsam.images.read import read_image
from carsam.predict.everything.candidates import decode_points, full_mask
from carsam.predict.everything.points import point_grid
from carsam.progress import Progress, Silent
from carsam.simulation.model import QuantizedModel

IMAGES = 8
GRID_SIDE = 4
BEST = 0.95
"""Quantile of the float model's scores that counts as its best."""


def with_thresholds(
    model: QuantizedModel,
    source: str | Path | Module,
    record: Calibration,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Return a quantized model whose provenance has thresholds for everything mode.

    The float model's are segment-anything's, times the score of its own best masks where that is
    less than 1. The quantized model's let the same share of its masks pass. None are added where
    no mask of the float model has a score above 0, or the model is not as its recipe says.

    Args:
        source: of the float model, as of `quantize`.
        record: of the quantization, some of whose images are asked at a grid of points.
        progress: hears how far it is.
    """
    progress = progress or Silent()
    if model.mode != "simulated":
        return model
    names = model.provenance["calibration"]["images"][:IMAGES]
    paths = [Path(record.pictures) / name for name in names]
    device = resolve_device(record.device)
    family, module = load_model(source, lambda _: None, model.image_size)
    progress.start("Scores of masks", 2 * len(paths))
    before = _scores(TorchEngine(family, module, "float", device), paths, progress)
    del module
    after = _scores(TorchEngine(model.family, model.module, model.mode, device), paths, progress)
    progress.finish()
    own = matching_thresholds(before, after)
    if own is None:
        return model
    found = {
        "images": len(paths),
        "candidates": len(before),
        "float": own[0].to_dict(),
        "quantized": own[1].to_dict(),
    }
    return replace(model, provenance={**model.provenance, KEY: found})


def matching_thresholds(
    before: np.ndarray, after: np.ndarray
) -> tuple[MaskThresholds, MaskThresholds] | None:
    """Return the thresholds of the float and of the quantized model; None if nothing scores.

    Args:
        before, after: predicted IoU and stability score of each mask (n, 2), of the float and of
            the quantized model.
    """
    best = np.minimum(np.quantile(before, BEST, axis=0), 1)
    if (best <= 0).any():
        return None
    iou = METAS_THRESHOLDS.pred_iou_thresh * best[0]
    stability = METAS_THRESHOLDS.stability_score_thresh * best[1]
    passed = before[before[:, 0] > iou]
    own_iou = np.quantile(after[:, 0], 1 - len(passed) / len(before))
    left = after[after[:, 0] > own_iou]
    if not len(left):
        return None
    own_stability = np.quantile(left[:, 1], 1 - np.mean(passed[:, 1] >= stability))
    return _rounded(iou, stability), _rounded(own_iou, own_stability)


def _scores(engine: Engine, paths: list[Path], progress: Progress) -> np.ndarray:
    """Return predicted IoU and stability score (n, 2) of the masks of a grid of points."""
    scores = []
    for path in paths:
        pixels, frame = preprocess(read_image(path, warn=lambda _: None), engine.framing)
        points = point_grid(GRID_SIDE) * np.array(frame.original_size[::-1])
        low_res, ious = decode_points(engine, engine.encode(pixels), frame, points)
        stability = [full_mask(logits, frame, 1.0)[1] for logits in low_res]
        scores.append(np.stack([ious, np.nan_to_num(stability)], axis=1))
        progress.advance(note=path.name)
    return np.concatenate(scores)


def _rounded(iou: float, stability: float) -> MaskThresholds:
    return MaskThresholds(round(float(iou), 4), round(float(stability), 4))
