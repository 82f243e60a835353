"""The arithmetic between an engine's steps, the same for every engine: SAM 2's, in numpy.

Where a transcendental function is in it, it is computed in float64 and rounded once, so that two
engines that agree before it agree after it.
"""

import numpy as np
from PIL import Image

ABSENT = -1024.0
"""The logit of all pixels of an object that is not there (`NO_OBJ_SCORE` of Meta's package)."""

MASK_LOGIT = 10.0
"""Of the pixels of a mask that was given, and of its score; minus it outside."""

LARGEST_LOGIT = 32.0
"""Earlier logits are cut off at this size before they become a prompt."""


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round float32 to bfloat16, ties to even, as its 16 bits; NaN is not looked after."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return the float32 values of bfloat16's bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the logistic function of logits, float32."""
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a bool mask (H, W) at another size, where half of a pixel or more is the mask."""
    if mask.shape == size:
        return mask
    return _resized(mask.astype(np.float32), size) >= 0.5


def resized(values: np.ndarray, side: int) -> np.ndarray:
    """Resize a square of float32 as the models do, which average where they shrink."""
    return values if len(values) == side else _resized(values, (side, side))


def logits_of_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """Return the decoder's logits (side, side) that stand for a mask (S, S) of the input."""
    return resized(np.where(mask, np.float32(MASK_LOGIT), np.float32(-MASK_LOGIT)), side)


def prompt_of_mask(mask: np.ndarray, kernel: tuple[np.ndarray, float], side: int) -> np.ndarray:
    """Return the decoder's mask prompt (side, side) of a mask (S, S): a convolution of stride k.

    Args:
        kernel: weight (k, k) and bias.
    """
    weight, bias = kernel
    step = len(weight)
    rows, columns = (side // step for side in mask.shape)
    cells = mask.reshape(rows, step, columns, step).astype(np.float64)
    made = (np.einsum("ikjl,kl->ij", cells, weight.astype(np.float64)) + bias).astype(np.float32)
    return resized(made, side)


def sines(steps: np.ndarray, channels: int, base: float = 10000.0) -> np.ndarray:
    """Return the sine encoding (n, channels) of numbers (n,): all sines, then all cosines.

    Channels 2i and 2i + 1 of a half have the same rate, base^(-2i / (channels / 2)).
    """
    half = channels // 2
    rates = base ** (-2.0 * (np.arange(half) // 2) / half)
    angles = np.asarray(steps, np.float64)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def without_overlaps(logits: np.ndarray) -> np.ndarray:
    """Return logits (N, H, W) of which at most one object's are positive in a pixel.

    The highest stay, of equal ones the first; the others become `-MASK_LOGIT` at most.
    """
    if len(logits) < 2:
        return logits
    winners = logits.argmax(0) == np.arange(len(logits))[:, None, None]
    return np.where(winners, logits, np.minimum(logits, np.float32(-MASK_LOGIT)))


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize float32 (H, W) with a bilinear filter that averages when it shrinks."""
    return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))
