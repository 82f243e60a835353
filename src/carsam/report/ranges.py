"""The grid of every activation: what it spans, and how much of it photos use."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from carsam.families.base import Site
from carsam.grids.base import Grid
from carsam.grids.tables import TableGrid
from carsam.methods.inspecting.operands import replaced
from carsam.simulation import slots
from carsam.simulation.attention import is_relative
from carsam.simulation.model import QuantizedModel


@dataclass(frozen=True)
class Range:
    """One operand's grid.

    Args:
        site: module path.
        low, high: smallest and largest value of the grid; of groups, over all of them.
        scale: of the grid, and its `zero_point` where it has one; None for several of them.
        clipped: share of the values that lie outside, by more than half a step; None unless seen.
        used: codes that occur, of 2**bits; None unless seen.
    """

    site: str
    kind: str
    operand: str
    grid: str
    bits: int
    low: float
    high: float
    scale: float | None
    zero_point: int | None
    clipped: float | None = None
    used: int | None = None


class Watch(nn.Module):
    """Stands in the slot of a grid and counts what is rounded."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.relative_to_maximum = is_relative(grid)
        values = _values(grid)
        self._ends = _ends(values) if values.ndim == 1 else None
        self._seen = torch.zeros(grid.levels + 1, dtype=torch.bool)
        self._outside = self._count = 0

    def forward(self, values: Tensor) -> Tensor:
        """Count, and round as the grid does."""
        codes = self.grid.codes(values)
        self._seen[codes.flatten().to(torch.int64).unique().cpu()] = True
        if self._ends is not None:
            low, high = self._ends
            self._outside += int(((values < low) | (values > high)).sum())
            self._count += values.numel()
        rounded: Tensor = self.grid(values)
        return rounded

    @property
    def clipped(self) -> float | None:
        """Share of the values outside the grid."""
        return self._outside / self._count if self._count else None

    @property
    def used(self) -> int | None:
        """Codes that occurred; None if nothing was rounded."""
        return int(self._seen.sum()) or None


@contextmanager
def watched(model: QuantizedModel) -> Iterator[dict[tuple[Site, str], Watch]]:
    """Count what every grid rounds while the model runs; its products are those of floats then."""
    watches = {key: Watch(grid) for key, grid in _grids(model)}
    with replaced(model.module, watches):
        yield watches


def ranges(
    model: QuantizedModel, watches: dict[tuple[Site, str], Watch] | None = None
) -> tuple[Range, ...]:
    """Return the range of every grid of an activation, in the order of execution."""
    found = []
    for (site, operand), grid in _grids(model):
        values = _values(grid)
        watch = (watches or {}).get((site, operand))
        found.append(
            Range(
                site.path,
                site.kind,
                operand,
                grid.name,
                grid.bits,
                float(values.min()),
                float(values.max()),
                _one(grid, "scale", float),
                _one(grid, "zero_point", int),
                watch.clipped if watch else None,
                watch.used if watch else None,
            )
        )
    return tuple(found)


def _grids(model: QuantizedModel) -> Iterator[tuple[tuple[Site, str], Grid]]:
    for site in model.sites:
        for operand in slots.operands(site):
            grid = slots.quantizer(model.module, site, operand)
            if isinstance(grid, Grid):
                yield (site, operand), grid


def _values(grid: Grid) -> Tensor:
    """Return all values of a grid, (levels,), or (levels, channels) where groups have their own."""
    if isinstance(grid, TableGrid):
        return grid.table(grid.scale)
    codes = torch.arange(grid.levels + 1, dtype=torch.float32)
    group = getattr(grid, "group", None)
    if group is not None:
        codes = codes[:, None].expand(-1, len(group))
    return grid.values(codes)


def _ends(values: Tensor) -> Sequence[float]:
    """Return where the values begin that are rounded by more than half a step."""
    ordered = values.sort().values
    below, above = (ordered[1] - ordered[0]) / 2, (ordered[-1] - ordered[-2]) / 2
    return float(ordered[0] - below), float(ordered[-1] + above)


def _one(grid: Grid, name: str, kind: Any) -> Any:
    value = getattr(grid, name, None)
    return kind(value.item()) if isinstance(value, Tensor) and value.numel() == 1 else None
