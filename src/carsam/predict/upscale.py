"""From the decoder's masks to masks of the image, as SAM's and SAM 2's `postprocess_masks`."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from carsam.images.preprocess import Frame
from carsam.images.strips import strips
from carsam.runtime.kernels import weighted_rows


def upscale_masks(low_res: np.ndarray, frame: Frame, return_logits: bool = True) -> np.ndarray:
    """Bring mask logits (..., 4h, 4w) to the original size.

    Returns:
        (..., H, W) float32 logits, or with `return_logits=False` bool, true where logits > 0.
    """
    leading = low_res.shape[:-2]
    kind = np.float32 if return_logits else np.bool_
    masks = np.empty((*leading, *frame.original_size), kind)
    for index in np.ndindex(*leading):
        for part, logits in upscaled_strips(low_res[index], frame):
            masks[index][part] = logits if return_logits else logits > 0
    return masks


def upscaled_strips(low_res: np.ndarray, frame: Frame) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows of the original size and their logits (rows, W) float32, strip by strip.

    SAM interpolates to S x S, cuts the padding off and interpolates to the original size; SAM 2,
    whose frame has no padding, interpolates once. All of it is linear and separable: a row of the
    result is a weighted sum of two to four neighbouring rows, and so is a column. Rows are made in
    strips, so that little is in memory.

    Args:
        low_res: logits (4h, 4w) of one mask.
        frame: of the image.
    """
    sources, weights = _axis_taps(_interpolations(frame, low_res.shape, 0))
    columns = _axis_taps(_interpolations(frame, low_res.shape, 1))
    wide = np.ascontiguousarray(weighted_rows(low_res.T, *columns).T)  # (4h, W)
    for part in strips(*frame.original_size):
        yield part, weighted_rows(wide, sources[part], weights[part])


Interpolation = tuple[int, int, int]
"""Pixels before, pixels after, and how many of the latter are kept."""


def _interpolations(frame: Frame, low: tuple[int, ...], axis: int) -> tuple[Interpolation, ...]:
    """Return what happens to the rows (axis 0) or columns (axis 1) of masks of shape `low`."""
    original, cropped, pixels = frame.original_size[axis], frame.input_size[axis], low[axis]
    if frame.framing.stretched:
        return ((pixels, original, original),)
    return ((pixels, frame.framing.side, cropped), (cropped, original, original))


@lru_cache(maxsize=8)  # all masks of an image have the same
def _axis_taps(interpolations: tuple[Interpolation, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sources of all interpolations together, and their weights.

    Both are (pixels at the end, taps), int32 and float32.
    """
    low = interpolations[0][0]
    first, taps = np.arange(low), np.ones((low, 1), np.float32)
    for source, target, kept in interpolations:
        lower, upper, weight = (part[:kept] for part in _bilinear_taps(source, target))
        shift = first[upper] - first[lower]
        combined = np.zeros((kept, taps.shape[1] + shift.max()), np.float32)
        places = np.arange(kept)[:, None], np.arange(taps.shape[1])
        combined[places] += taps[lower] * (1 - weight)
        combined[places[0], places[1] + shift[:, None]] += taps[upper] * weight
        first, taps = first[lower], combined
    # Beyond the last source the weights are 0.
    return np.minimum(first[:, None] + np.arange(taps.shape[1]), low - 1).astype(np.int32), taps


def _bilinear_taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lower and upper source index (target,) and the upper one's weight (target, 1).

    The positions are rounded to float32 as torch's are for `align_corners=False`: scale first,
    then the fused product and sum. Better ones would differ from SAM's where logits change fast.
    """
    scale = np.float64(np.float32(source) / np.float32(target))
    position = (scale * (np.arange(target) + 0.5) - 0.5).astype(np.float32)
    position = np.maximum(position, 0)
    lower = np.minimum(position.astype(np.int64), source - 1)
    upper = np.minimum(lower + 1, source - 1)
    return lower, upper, (position - lower.astype(np.float32))[:, None]
