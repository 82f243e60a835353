"""Counts of values whose range is not known beforehand, taken in one pass."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

MOST_BINS = 8192
ELEMENTS_AT_ONCE = 1 << 24  # float32 counts are exact up to here
MANTISSA_BITS = 23


@dataclass
class Histogram:
    """Bins of equal width, as fine as `MOST_BINS` of them allow for the range seen so far.

    The width is a power of two and bins begin at its multiples. When values lie outside, bins are
    added, and when they become too many, every two are merged: the width doubles and no count
    moves to a bin that it does not belong to. In the end more than half of `MOST_BINS` cover the
    range, unless float32 cannot tell so many values apart there.

    Args:
        exponent: the width is 2**exponent.
        first: the number of the first bin; bin n begins at n * width.
        counts: (bins,) float64.
    """

    exponent: int = 0
    first: int = 0
    counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def add(self, values: Tensor, low: float, high: float) -> None:
        """Count finite values; `low` and `high` are the smallest and the largest of them."""
        if len(self.counts) == 0:
            self.exponent = finest_exponent(low, high)
            self.first = math.floor(low / 2.0**self.exponent)
        coarsest = _coarsest_edge(low, high)
        while self.exponent < coarsest or self._bins_with(low, high) > MOST_BINS:
            self._merge_pairs()
        width = 2.0**self.exponent
        begin, end = math.floor(low / width), math.floor(high / width) + 1
        before = max(0, self.first - begin)
        after = max(0, end - self.first - len(self.counts))
        self.counts = torch.nn.functional.pad(self.counts, (before, after))
        self.first -= before
        part = self.counts[begin - self.first : end - self.first]
        for piece in values.flatten().split(ELEMENTS_AT_ONCE):
            found = torch.histc(piece.float(), end - begin, begin * width, end * width)
            part += found.double().cpu()

    @property
    def centres(self) -> Tensor:
        """The middles of the bins, (bins,) float64."""
        places = torch.arange(len(self.counts), dtype=torch.float64)
        return (places + (self.first + 0.5)) * 2.0**self.exponent

    def _bins_with(self, low: float, high: float) -> int:
        """Return how many bins there would be, were these two values counted."""
        width = 2.0**self.exponent
        begin, end = math.floor(low / width), math.floor(high / width) + 1
        if len(self.counts):
            begin, end = min(begin, self.first), max(end, self.first + len(self.counts))
        return end - begin

    def _merge_pairs(self) -> None:
        before = self.first % 2
        after = (before + len(self.counts)) % 2
        pairs = torch.nn.functional.pad(self.counts, (before, after)).view(-1, 2)
        self.counts = pairs.sum(1)
        self.first = (self.first - before) // 2
        self.exponent += 1


def finest_exponent(low: float, high: float) -> int:
    """Return the exponent of the finest bins, `MOST_BINS` at most, that hold a range."""
    exponent = _coarsest_edge(low, high)
    if high > low:
        exponent = max(exponent, math.frexp((high - low) / MOST_BINS)[1] - 1)
    while math.floor(high / 2.0**exponent) - math.floor(low / 2.0**exponent) >= MOST_BINS:
        exponent += 1
    return exponent


def _coarsest_edge(low: float, high: float) -> int:
    """Return the least exponent with which edges of bins are float32 numbers."""
    largest = max(abs(low), abs(high), torch.finfo(torch.float32).tiny)
    return math.frexp(largest)[1] - MANTISSA_BITS
