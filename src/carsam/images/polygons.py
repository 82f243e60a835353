"""Masks as polygons along the edges of their pixels: drawn again, they are the same mask.

Polygons have no holes in COCO, so each hole is joined to the outline around it by a cut without
width.
"""

import numpy as np

Point = tuple[int, int]
"""x and y of a corner of pixels."""

Step = tuple[int, int, int]
"""x and y where it begins, and its direction: an index of `DIRECTIONS`."""

DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""x and y of one step; the next one is a turn to the right."""

RIGHT, STRAIGHT, LEFT = 1, 0, 3


def polygons(mask: np.ndarray) -> list[list[int]]:
    """Return the outline x, y, x, y ... of each part of `mask` (H, W) bool, clockwise.

    Pixels that touch at a corner only do not belong together.
    """
    outlines: list[list[Point]] = []
    for loop in sorted(_loops(mask), key=_top):
        if _is_hole(loop):
            _join_(outlines, loop)
        else:
            outlines.append(loop)
    return [[number for point in _corners(outline) for number in point] for outline in outlines]


def _loops(mask: np.ndarray) -> list[list[Point]]:
    """Return closed paths of unit steps along all edges of the mask, which lies at their right."""
    steps = _steps(mask)
    loops = []
    while steps:
        first = step = next(iter(steps))
        loop = []
        while True:
            x, y, direction = step
            loop.append((x, y))
            del steps[step]
            x, y = x + DIRECTIONS[direction][0], y + DIRECTIONS[direction][1]
            ways = ((x, y, (direction + turn) % 4) for turn in (RIGHT, STRAIGHT, LEFT))
            step = next(way for way in ways if way in steps or way == first)
            if step == first:
                break
        loops.append(loop)
    return loops


def _steps(mask: np.ndarray) -> dict[Step, None]:
    """Return the steps around every part of the mask, clockwise, and around holes against it."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    begins = ((0, 0), (1, 0), (1, 1), (0, 1))  # of the edges above, right, below and left
    steps: dict[Step, None] = {}
    for direction, (neighbour, (x, y)) in enumerate(zip(neighbours, begins, strict=True)):
        rows, columns = np.nonzero(inside & ~neighbour)
        places = zip((columns + x).tolist(), (rows + y).tolist(), strict=True)
        steps |= {(*place, direction): None for place in places}
    return steps


def _top(loop: list[Point]) -> Point:
    """Return y and x of a loop's first point, by rows."""
    return min((y, x) for x, y in loop)


def _is_hole(loop: list[Point]) -> bool:
    """Tell whether a loop runs against the clock: twice its area is negative then."""
    pairs = zip(loop, [*loop[1:], loop[0]], strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) < 0


def _join_(outlines: list[list[Point]], hole: list[Point]) -> None:
    """Insert a hole, and the way to it and back, into the outline straight above its first point.

    Loops come by their first points, so that the one above is an outline already, or part of one.
    """
    bottom, x = _top(hole)
    for y in range(bottom, -1, -1):
        for outline in outlines:
            if (x, y) in outline:
                start, place = hole.index((x, bottom)), outline.index((x, y))
                down = [(x, between) for between in range(y, bottom)]
                way = [*down, *hole[start:], *hole[:start], (x, bottom), *reversed(down)]
                outline[place : place + 1] = way if down else [*way[:-1], (x, y)]
                return


def _corners(loop: list[Point]) -> list[Point]:
    """Return only the points at which a loop changes its direction."""
    around = zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)
    return [
        point
        for before, point, after in around
        if (point[0] - before[0], point[1] - before[1])
        != (after[0] - point[0], after[1] - point[1])
    ]
