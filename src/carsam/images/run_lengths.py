"""Masks as COCO's run lengths: a thousand of them take less memory than two masks of pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.errors import UserError
from carsam.images.strips import strips


@dataclass(frozen=True)
class RunLengths:
    """A mask as the lengths of its runs down the columns, column by column.

    Args:
        size: height and width of the mask.
        edges: (n,) integers, ascending: places, counted down the columns, where the mask begins or
            ends in turn. One that ends with the last pixel has no edge there.
    """

    size: tuple[int, int]
    edges: np.ndarray

    @classmethod
    def of_mask(
        cls, mask: np.ndarray, size: tuple[int, int] | None = None, left: int = 0, top: int = 0
    ) -> "RunLengths":
        """Encode a bool mask (h, w), which may be a part of one of `size`, placed at left, top."""
        height, width = size or (mask.shape[0], mask.shape[1])
        rows, columns = mask.shape
        edges, inside = [], False
        for part in strips(columns, height):
            whole = np.zeros((part.stop - part.start, height), bool)
            whole[:, top : top + rows] = mask[:, part].T
            pixels = whole.reshape(-1)
            changes = np.flatnonzero(np.diff(pixels, prepend=inside))
            edges.append(changes + (left + part.start) * height)
            inside = bool(pixels[-1])
        if inside:
            edges.append(np.array([(left + columns) * height]))
        return cls.of_edges((height, width), np.concatenate(edges))

    @classmethod
    def of_edges(cls, size: tuple[int, int], edges: np.ndarray) -> "RunLengths":
        """Make one of edges, the last of which may be the end of the mask."""
        pixels = size[0] * size[1]
        return cls(size, edges[edges < pixels].astype(np.min_scalar_type(-pixels)))

    @classmethod
    def of_compressed(cls, rle: Mapping[str, Any]) -> "RunLengths":
        """Read what `compressed` writes.

        Raises:
            UserError: it is no mask of that size.
        """
        height, width = rle["size"]
        runs = _decompressed(rle["counts"])
        if (runs < 0).any() or runs.sum() != height * width:
            raise UserError(
                f"Found run lengths that do not fill {width} x {height} pixels; expected COCO's "
                "compressed counts of a mask of that size."
            )
        return cls.of_edges((height, width), np.cumsum(runs))

    @property
    def counts(self) -> np.ndarray:
        """Lengths (n,) int64 of the runs; the first is background, and 0 where there is none."""
        borders = np.concatenate([[0], self.edges, [self.size[0] * self.size[1]]])
        return np.diff(borders)

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(self.counts[1::2].sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """First column, first row, last column and last row of the mask; zeros for an empty one."""
        columns, starts, stops = self.segments(inside=True)
        if not len(columns):
            return 0, 0, 0, 0
        return int(columns[0]), int(starts.min()), int(columns[-1]), int(stops.max()) - 1

    def segments(self, inside: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the column, first row and end of every run, cut where a column ends."""
        height, width = self.size
        borders = np.concatenate([[0], self.edges, [height * width]])
        starts, stops = borders[int(inside) : -1 : 2], borders[int(inside) + 1 :: 2]
        starts, stops = starts[stops > starts], stops[stops > starts]
        first, last = starts // height, (stops - 1) // height
        pieces = last - first + 1
        run = np.repeat(np.arange(len(starts)), pieces)
        columns = first[run] + np.arange(len(run)) - np.repeat(pieces.cumsum() - pieces, pieces)
        tops = np.maximum(starts[run] - columns * height, 0)
        return columns, tops, np.minimum(stops[run] - columns * height, height)

    def mask(self) -> np.ndarray:
        """Return the mask (H, W) bool."""
        height, width = self.size
        counts = self.counts
        values = np.arange(len(counts)) % 2 == 1
        return np.repeat(values, counts).reshape(width, height).T

    def uncompressed(self) -> dict[str, Any]:
        """Return `size` and the lengths as COCO's json may have them."""
        return {"size": list(self.size), "counts": self.counts.tolist()}

    def compressed(self) -> dict[str, Any]:
        """Return `size` and the lengths as text, as pycocotools writes them.

        Each length from the fourth on is written as the difference to the one before the last, in
        groups of 5 bits, the lowest first; a sixth bit says that more follow.
        """
        counts = self.counts
        numbers = counts.copy()
        numbers[3:] -= counts[1:-2]
        symbols, there = [], [np.ones(len(numbers), bool)]
        while there[-1].any():
            group = numbers & 31
            numbers >>= 5
            more = there[-1] & (numbers != np.where(group & 16, -1, 0))
            symbols.append(group + 32 * more + 48)
            there.append(more)
        text = np.stack(symbols, 1)[np.stack(there[:-1], 1)]
        return {"size": list(self.size), "counts": text.astype(np.uint8).tobytes().decode()}


def _decompressed(counts: str) -> np.ndarray:
    """Return the lengths (n,) int64 that `RunLengths.compressed` writes as text."""
    symbols = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    lasts = np.flatnonzero((symbols & 32) == 0)
    usable = len(symbols) and symbols.min() >= 0 and symbols.max() < 64
    if not usable or not len(lasts) or lasts[-1] != len(symbols) - 1:
        raise UserError("Found counts that are no run lengths; expected COCO's compressed counts.")
    firsts = np.concatenate([[0], lasts[:-1] + 1])
    places = np.arange(len(symbols)) - np.repeat(firsts, lasts - firsts + 1)
    numbers = np.add.reduceat((symbols & 31) << (5 * places), firsts)
    numbers -= ((symbols[lasts] & 16) > 0) << (5 * (places[lasts] + 1))
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
