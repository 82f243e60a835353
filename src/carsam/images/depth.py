"""Bringing channels of more than 8 bits down to 8 without losing the contrast."""

from dataclasses import dataclass

import numpy as np

from carsam.images.strips import strips

OUTLIERS = 0.001
"""Share of the values at either end that may belong to hot or dead pixels."""


@dataclass(frozen=True)
class UsedRange:
    """The values from `lowest` to `highest`, which become 0 to 255."""

    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.lowest:.6g} to {self.highest:.6g}"


def to_eight_bits(values: np.ndarray, bits: int = 16) -> tuple[np.ndarray, UsedRange | None]:
    """Bring the values of an image to uint8.

    Integers that use the upper half of their bits and at least a quarter of all values keep
    their upper 8 bits, and so does an image of one value: `values >> (bits - 8)`. Otherwise the
    range that is used becomes 0..255: from the lowest to the highest value, without the outermost
    thousandth at an end that lies further out than all others are wide (hot and dead pixels).

    Args:
        values: (H, W) or (H, W, C), integers or floats, finite.
        bits: of integers; those that do not fit are mapped by the range that is used.

    Returns:
        The uint8 array, and the range that became 0..255; None where the upper bits were kept, and
        for floats of one value, which become 0.
    """
    found = used_range(values)
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() < 1 << bits:
        width = found.highest - found.lowest
        full = found.highest >= 1 << bits - 1 and width >= 1 << bits - 2
        if full or width == 0:
            return (values >> bits - 8).astype(np.uint8), None
    return _stretched(values, found), found if found.lowest < found.highest else None


def used_range(values: np.ndarray) -> UsedRange:
    """Return the range that `to_eight_bits` takes for used."""
    few = int(values.size * OUTLIERS)
    last = values.size - 1
    ordered = np.partition(values, sorted({0, few, last - few, last}), axis=None)
    lowest, low, high, highest = (float(ordered[i]) for i in (0, few, last - few, last))
    width = high - low
    if 0 < width < low - lowest:
        lowest = low
    if 0 < width < highest - high:
        highest = high
    return UsedRange(lowest, highest)


def _stretched(values: np.ndarray, found: UsedRange) -> np.ndarray:
    scale = 255 / (found.highest - found.lowest or 1.0)
    result = np.empty(values.shape, np.uint8)
    for rows in strips(*values.shape[:2]):
        scaled = np.rint((values[rows].astype(np.float64) - found.lowest) * scale)
        result[rows] = scaled.clip(0, 255)
    return result
