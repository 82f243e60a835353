"""The codebook of least squared error for a histogram."""

import torch
from torch import Tensor

from carsam.grids.base import UniformGrid, scale_and_zero_point
from carsam.grids.codebook import FINE_LEVELS, CodebookGrid
from carsam.grids.observers import Statistics, histogram_bins

SHRINKAGES = (1.0, 0.8, 0.64, 0.5, 0.4, 0.32, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03)
"""Of the range's ends, tried one end after the other."""


def best_codebook(statistics: Statistics, bits: int) -> tuple[CodebookGrid, float]:
    """Return the codebook of least squared error, and this error, the mean over all values.

    For a given fine grid the best entries are found exactly, by dynamic programming over the 256
    fine codes (the optimal scalar quantizer of Bruce, 1965, for a histogram); the ends of the fine
    grid are searched for.
    """
    counts, centres = histogram_bins(statistics)
    low, high = min(0.0, *statistics.lows), max(0.0, *statistics.highs)
    best: tuple[float, float, float] | None = None
    ends = (low, high)
    for end in (1, 0, 1):
        if ends[end] == 0:
            continue
        for shrinkage in SHRINKAGES:
            tried = list(ends)
            tried[end] = (low, high)[end] * shrinkage
            error, _ = _search(counts, centres, *tried, bits)
            if best is None or error < best[0]:
                best = (error, tried[0], tried[1])
        assert best is not None
        ends = best[1:]
    error, grid = _search(counts, centres, *ends, bits)
    return grid, error


def _search(
    counts: Tensor, centres: Tensor, low: float, high: float, bits: int
) -> tuple[float, CodebookGrid]:
    scale, zero = scale_and_zero_point(torch.tensor([low]), torch.tensor([high]), 8)
    fine = ((centres / scale.double()).round() + zero).clamp(0, FINE_LEVELS)
    exact = centres / scale.double() + zero  # values in fine steps
    cells = FINE_LEVELS + 1
    moments = torch.zeros(3, cells, dtype=torch.float64)
    moments.index_add_(1, fine.long(), torch.stack([counts, counts * exact, counts * exact**2]))
    entries, error = best_entries(moments, int(zero), 2**bits)
    grid = CodebookGrid(scale, zero, entries, bits)
    return float(error * scale.double() ** 2 / counts.sum()), grid


def best_entries(moments: Tensor, zero: int, count: int) -> tuple[Tensor, float]:
    """Return the entries (count,) of least squared error, one of them `zero`, and the error.

    Args:
        moments: (3, cells): number, sum, and sum of squares of the values of each fine code.
    """
    cells = moments.shape[1]
    sums = torch.nn.functional.pad(moments.cumsum(1), (1, 0))
    number, total, squares = (s[None, :] - s[:, None] for s in sums)  # [i, j]: cells i to j - 1
    places = torch.arange(cells + 1)
    entry = (total / number.clamp(min=1e-9)).round().clamp(0, cells - 1)
    holds_zero = (places[:, None] <= zero) & (zero < places[None, :])
    entry = torch.where(holds_zero, float(zero), entry)
    cost = squares - 2 * entry * total + entry**2 * number
    cost = torch.where(places[:, None] < places[None, :], cost, torch.inf)
    best = cost[0].clone()
    back = []
    for _ in range(count - 1):
        options = best[:, None] + cost
        options[places, places] = best  # one entry fewer
        best, previous = options.min(0)
        back.append(previous)
    end, entries = cells, []
    for previous in reversed(back):
        start = int(previous[end])
        if start < end:
            entries.append(float(entry[start, end]))
        end = start
    entries.append(float(entry[0, end]))
    entries += [entries[0]] * (count - len(entries))
    return torch.tensor(entries).sort().values, float(best[cells])


def uniform_error(statistics: Statistics, grid: UniformGrid) -> float:
    """Return the mean squared error of a uniform grid over the histogram's values."""
    counts, centres = histogram_bins(statistics)
    errors = (grid.to("cpu")(centres.float()) - centres).square()
    return float((errors * counts).sum() / counts.sum())
