"""Outlines with fewer corners."""

import numpy as np


def simplified(outline: list[int], tolerance: float) -> list[list[float]]:
    """Return the corners [x, y] that keep a closed outline within a distance of itself.

    The Douglas-Peucker algorithm (Ramer 1972; Douglas and Peucker 1973): a chain of corners becomes
    a line, if none is farther from it; otherwise it is cut at the farthest one.

    Args:
        outline: x, y, x, y ... as `polygons` returns them.
        tolerance: greatest distance, in pixels, of a corner that goes from the line in its place.
    """
    corners = np.array(outline, float).reshape(-1, 2)
    closed = np.concatenate([corners, corners[:1]])
    far = int(_distances(corners, corners[0], corners[0]).argmax())
    kept = {0, far}
    chains = [(0, far), (far, len(corners))]
    while chains:
        first, last = chains.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        farthest = int(distances.argmax())
        if distances[farthest] > tolerance:
            cut = first + 1 + farthest
            kept.add(cut)
            chains += [(first, cut), (cut, last)]
    return corners[sorted(kept)].tolist()


def perimeter(outline: list[int]) -> float:
    """Return the length of a closed outline, in pixels."""
    corners = np.array(outline, float).reshape(-1, 2)
    return float(np.hypot(*(np.roll(corners, -1, axis=0) - corners).T).sum())


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the distances (n,) of points (n, 2) from the line between two."""
    line, offsets = end - start, points - start
    length = line @ line
    along = np.clip(offsets @ line / length, 0, 1) if length else np.zeros(len(points))
    return np.hypot(*(offsets - along[:, None] * line).T)
