"""Observers: from what a tensor's values looked like to the range of its grid."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from carsam.errors import UserError
from carsam.grids.base import UniformGrid, scale_and_zero_point
from carsam.grids.histogram import Histogram

SHRINK_STEPS = 80
SEARCH_FACTORS = (
    torch.logspace(0, -2, 32),
    torch.logspace(0.2, -0.2, 24),
    torch.linspace(1.06, 0.94, 24),
)
ELEMENTS_AT_ONCE = 1 << 18  # which stay in a processor's cache from one operation to the next


@dataclass
class Statistics:
    """What is kept of one activation tensor over the calibration images.

    Args:
        lows, highs: smallest and largest value of each image.
        histogram: of all values; None where they are not counted.
    """

    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    histogram: Histogram | None = None


class Observer(nn.Module):
    """Stands in a quantizer's slot and records what passes.

    Args:
        path, operand: of the slot, for messages.
        counts: keep a histogram beside the extremes.
    """

    def __init__(self, path: str, operand: str, counts: bool = False) -> None:
        super().__init__()
        self.path, self.operand = path, operand
        self.statistics = Statistics(histogram=Histogram() if counts else None)
        self._image: tuple[float, float] | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Record `values` and pass them on."""
        low, high = (float(extreme) for extreme in torch.aminmax(values))
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise UserError(
                f"{self.path}: {self.operand} holds NaN or infinity; check the weights."
            )
        past = self._image or (low, high)
        self._image = (min(past[0], low), max(past[1], high))
        if self.statistics.histogram is not None:
            self.statistics.histogram.add(values, low, high)
        return values

    def end_image(self) -> None:
        """Close one image: a tensor may pass in several pieces."""
        if self._image is not None:
            self.statistics.lows.append(self._image[0])
            self.statistics.highs.append(self._image[1])
            self._image = None


def minmax(statistics: Statistics, bits: int) -> tuple[float, float]:
    """Range from the smallest to the largest value ever seen."""
    return min(statistics.lows), max(statistics.highs)


def averaged_minmax(statistics: Statistics, bits: int) -> tuple[float, float]:
    """Range from the mean of the images' smallest to the mean of their largest values."""
    images = len(statistics.lows)
    return sum(statistics.lows) / images, sum(statistics.highs) / images


def percentile(statistics: Statistics, bits: int, fraction: float = 0.9999) -> tuple[float, float]:
    """Range that leaves out (1 - fraction) of the values at either end."""
    counts, centres = histogram_bins(statistics)
    below = counts.cumsum(0) / counts.sum()
    last = len(counts) - 1
    low = int((below < 1 - fraction).sum().clamp(max=last))
    high = int((below < fraction).sum().clamp(max=last))
    return float(centres[low]), float(centres[high])


def mse(statistics: Statistics, bits: int) -> tuple[float, float]:
    """Range of least mean squared error: one end after the other, in ever finer steps."""
    ends = torch.tensor([min(0.0, *statistics.lows), max(0.0, *statistics.highs)])
    for factors in SEARCH_FACTORS:
        for end in (1, 0):
            if ends[end] != 0:
                ranges = ends.repeat(len(factors), 1)  # (candidates, 2)
                ranges[:, end] *= factors
                ends = _best_range(statistics, ranges, bits)
    return float(ends[0]), float(ends[1])


ACTIVATION_OBSERVERS: dict[str, Callable[[Statistics, int], tuple[float, float]]] = {
    "minmax": minmax,
    "averaged-minmax": averaged_minmax,
    "percentile": percentile,
    "mse": mse,
}
NEED_HISTOGRAM = {"percentile", "mse"}


def activation_grid(
    statistics: Statistics, observer: str, bits: int, device: torch.device
) -> UniformGrid:
    """Return the grid of an activation tensor, its range found by an `ACTIVATION_OBSERVERS`."""
    ends = torch.tensor([ACTIVATION_OBSERVERS[observer](statistics, bits)], device=device)
    return UniformGrid.from_range(ends[:, 0], ends[:, 1], bits)


def weight_minmax(rows: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Range of each row (rows, columns), from its smallest to its largest weight."""
    low, high = torch.aminmax(rows, dim=1, keepdim=True)
    return low, high


def weight_mse(rows: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Range of each row of least mean squared error, over 80 shrinkages of its min-max range."""
    low, high = weight_minmax(rows, bits)
    shrink = torch.linspace(1.0, 0.21, SHRINK_STEPS, device=rows.device)
    best_shrink = torch.empty(len(rows), 1, device=rows.device)
    at_once = max(1, ELEMENTS_AT_ONCE // (SHRINK_STEPS * rows.shape[1]))
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        ranges = torch.stack([low[part] * shrink, high[part] * shrink], -1)  # (rows, steps, 2)
        repeated = rows[part, None].expand(-1, SHRINK_STEPS, -1)
        errors = _squared_errors(repeated, ranges, bits).sum(-1)  # (rows, steps)
        best_shrink[part] = shrink[errors.argmin(1, keepdim=True)]
    return low * best_shrink, high * best_shrink


WEIGHT_OBSERVERS: dict[str, Callable[[Tensor, int], tuple[Tensor, Tensor]]] = {
    "minmax": weight_minmax,
    "mse": weight_mse,
}


def _best_range(statistics: Statistics, ranges: Tensor, bits: int) -> Tensor:
    """Return the range of `ranges` (candidates, 2) with the least error on the histogram."""
    counts, centres = histogram_bins(statistics)
    errors = _squared_errors(centres.float().expand(len(ranges), -1), ranges, bits)
    return ranges[(errors @ counts.float()).argmin()]


def histogram_bins(statistics: Statistics) -> tuple[Tensor, Tensor]:
    """Return counts and centres (bins,) of the histogram, in float64."""
    assert statistics.histogram is not None, "no step has said that it reads the histogram"
    return statistics.histogram.counts, statistics.histogram.centres


def _squared_errors(values: Tensor, ranges: Tensor, bits: int) -> Tensor:
    """Return (x^ - x)**2 for values (..., n) on the grids of ranges (..., 2)."""
    scale, zero_point = scale_and_zero_point(ranges[..., :1], ranges[..., 1:], bits)
    codes = (torch.round(values / scale) + zero_point).clamp_(0, 2**bits - 1)
    return (codes - zero_point).mul_(scale).sub_(values).square_()
