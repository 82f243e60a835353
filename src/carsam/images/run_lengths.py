"""Masks as COCO's compressed run lengths, in numpy: what pycocotools writes, byte by byte.

The runs go down the columns and start with background. Each but the first three is stored as the
difference to the run before the last one, in groups of 5 bits, lowest first, 48 added: bit 5 of a
group says that another follows, bit 4 of the last one is the sign (`rleToString` in COCO's API).
"""

from typing import TypedDict

import numpy as np

from carsam.errors import UserError

GROUP, MORE, SIGN, OFFSET = 5, 32, 16, 48


class Rle(TypedDict):
    """Height and width, and the compressed runs."""

    size: list[int]
    counts: str


def encode(mask: np.ndarray) -> Rle:
    """Return the encoding of `mask` (H, W) bool."""
    height, width = mask.shape
    return {"size": [height, width], "counts": _compressed(_runs(mask))}


def decode(rle: Rle) -> np.ndarray:
    """Return the mask (H, W) bool of an encoding.

    Raises:
        UserError: the runs do not fill an image of that size.
    """
    height, width = rle["size"]
    runs = _decompressed(rle["counts"])
    if (runs < 0).any() or runs.sum() != height * width:
        raise UserError(
            f"Found run lengths that do not fill {width} x {height} pixels; expected COCO's "
            "compressed counts of a mask of that size."
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def area(rle: Rle) -> int:
    """Return the number of pixels in the mask."""
    return int(_decompressed(rle["counts"])[1::2].sum())


def box(rle: Rle) -> list[int]:
    """Return x, y, width and height of the smallest box around the mask; zeros without a pixel."""
    height = rle["size"][0]
    ends = np.cumsum(_decompressed(rle["counts"]))
    starts, lasts = ends[:-1:2], ends[1::2] - 1
    starts, lasts = starts[lasts >= starts], lasts[lasts >= starts]
    if not len(starts):
        return [0, 0, 0, 0]
    left, right = int(starts[0] // height), int(lasts[-1] // height)
    if (starts // height != lasts // height).any():  # a run over a column's end has both edges
        top, bottom = 0, height - 1
    else:
        top, bottom = int((starts % height).min()), int((lasts % height).max())
    return [left, top, right - left + 1, bottom - top + 1]


def _runs(mask: np.ndarray) -> np.ndarray:
    """Return the lengths of the runs down the columns, background first."""
    flat = np.ravel(mask, order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(np.concatenate([[0], changes, [flat.size]]))


def _compressed(runs: np.ndarray) -> str:
    values = runs.copy()
    values[3:] -= runs[1:-2]
    groups = []
    open_ = np.ones(len(values), bool)
    while open_.any():
        group, values = values & (MORE - 1), values >> GROUP
        more = open_ & np.where(group & SIGN, values != -1, values != 0)
        groups.append(np.where(open_, group + OFFSET + MORE * more, 0))
        open_ = more
    written = np.stack(groups, axis=1).ravel()
    return written[written > 0].astype(np.uint8).tobytes().decode()


def _decompressed(counts: str) -> np.ndarray:
    groups = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - OFFSET
    lasts = np.flatnonzero((groups & MORE) == 0)
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or lasts[-1:] != [len(groups) - 1]:
        raise UserError("Found counts that are no run lengths; expected COCO's compressed counts.")
    firsts = np.concatenate([[0], lasts[:-1] + 1])
    places = np.arange(len(groups)) - np.repeat(firsts, lasts - firsts + 1)
    values = np.add.reduceat((groups & (MORE - 1)) << (GROUP * places), firsts)
    values -= ((groups[lasts] & SIGN) > 0) << (GROUP * (places[lasts] + 1))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
