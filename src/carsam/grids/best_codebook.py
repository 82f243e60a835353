"""The codebook of least squared error for a histogram."""

import torch
from torch import Tensor

from carsam.grids.base import UniformGrid, scale_and_zero_point
from carsam.grids.codebook import CodebookGrid
from carsam.grids.observers import Statistics, histogram_bins

FACTORS = ((1.0, 1.0), (0.8, 0.8), (1.0, 0.8), (0.8, 1.0))
"""What the outer values are multiplied by to become the ends of the next fine grid."""


def best_codebook(statistics: Statistics, bits: int, fine_bits: int) -> tuple[CodebookGrid, float]:
    """Return the codebook of least squared error, and this error, the mean over all values.

    For a given fine grid the best entries are found exactly, by dynamic programming over its codes
    (the optimal scalar quantizer of Bruce, 1965, for a histogram). The ends of the fine grid are
    searched for: from the extreme values they move to the outer entries, and inwards from there,
    as long as the error falls.

    Args:
        fine_bits: of the fine grid, more than `bits`, at most 8.
    """
    counts, centres = histogram_bins(statistics)
    filled = counts > 0
    bins = torch.stack([counts[filled], centres[filled]])
    ends = torch.tensor([min(0.0, *statistics.lows), max(0.0, *statistics.highs)])
    best = _codebook_over(bins, ends, bits, fine_bits)
    for factors in FACTORS:
        while True:
            ends = best[0].values(torch.tensor([0, best[0].levels])) * torch.tensor(factors)
            moved = _codebook_over(bins, ends, bits, fine_bits)
            if moved[1] >= best[1]:
                break
            best = moved
    return best


def _codebook_over(
    bins: Tensor, ends: Tensor, bits: int, fine_bits: int
) -> tuple[CodebookGrid, float]:
    """Return the best codebook whose fine grid spans the ends, and its mean squared error.

    Args:
        bins: (2, n) counts and values.
        ends: (2,) lowest and highest value.
    """
    counts, values = bins
    scale, zero = scale_and_zero_point(ends[:1], ends[1:], fine_bits)
    exact = values / scale.double() + zero  # in fine steps
    fine = exact.round().clamp_(0, 2**fine_bits - 1)
    moments = torch.zeros(3, 2**fine_bits, dtype=torch.float64)
    moments.index_add_(1, fine.long(), torch.stack([counts, counts * exact, counts * exact**2]))
    entries, error = best_entries(moments, int(zero), 2**bits)
    grid = CodebookGrid(scale, zero, entries, bits)
    return grid, error * float(scale) ** 2 / float(counts.sum())


def best_entries(moments: Tensor, zero: int, count: int) -> tuple[Tensor, float]:
    """Return the entries (count,) of least squared error, one of them `zero`, and the error.

    Args:
        moments: (3, cells) number, sum, and sum of squares of the values of each fine code, in
            float64.
    """
    cost, entry = _costs(moments, zero)
    least = [cost[0]]  # [k][j]: of cells 0 to j - 1 with k + 1 entries
    for _ in range(count - 1):
        least.append((least[-1][:, None] + cost).amin(0))
    entries, end = [], len(cost) - 1
    for before in reversed(least[:-1]):
        start = int((before + cost[:, end]).argmin())
        if start < end:
            entries.append(entry[start, end])
        end = start
    entries.append(entry[0, end])
    entries += entries[:1] * (count - len(entries))
    return torch.stack(entries).sort().values, float(least[-1][-1])


def _costs(moments: Tensor, zero: int) -> tuple[Tensor, Tensor]:
    """Return the squared error of one entry for cells i to j - 1, [i, j], and that entry.

    No cells cost nothing; cells that hold `zero` have it as their entry.
    """
    cells = moments.shape[1]
    sums = torch.nn.functional.pad(moments.cumsum(1), (1, 0))
    number, total, squares = sums[:, None, :] - sums[:, :, None]
    entry = (total / number.clamp(min=1e-9)).round_().clamp_(0, cells - 1)
    entry[: zero + 1, zero + 1 :] = zero
    cost = (entry * number - 2 * total).mul_(entry).add_(squares)
    places = torch.arange(cells + 1)
    cost.masked_fill_(places[:, None] > places, torch.inf).diagonal().zero_()
    return cost.float(), entry


def uniform_error(statistics: Statistics, grid: UniformGrid) -> float:
    """Return the mean squared error of a uniform grid over the histogram's values."""
    counts, centres = histogram_bins(statistics)
    errors = (grid.to("cpu")(centres.float()) - centres).square()
    return float((errors * counts).sum() / counts.sum())
