"""Filling small holes of a mask and removing its small islands, on run lengths."""

import numpy as np

from carsam.images.run_lengths import RunLengths


def without_small_regions(mask: RunLengths, min_area: int) -> tuple[RunLengths, bool]:
    """Fill holes, then remove islands, of less than `min_area` pixels.

    Pixels that touch at a corner belong together. Where all islands are smaller, the largest
    stays. The rules are those of segment-anything's `remove_small_regions`.

    Returns:
        The mask, and whether it was changed.
    """
    filled = _without_small(mask, min_area, inside=False)
    cleaned = _without_small(filled, min_area, inside=True)
    return cleaned, cleaned is not mask


def _without_small(mask: RunLengths, min_area: int, inside: bool) -> RunLengths:
    """Turn small regions over: those of the mask if `inside`, otherwise its holes."""
    columns, starts, stops = mask.segments(inside)
    if not len(columns):
        return mask
    regions = _regions(columns, starts, stops, mask.size[0])
    areas = np.bincount(regions, stops - starts)[regions]
    small = areas < min_area
    if not small.any():
        return mask
    if inside and small.all():
        small &= regions != _first_largest(regions, areas, columns, starts)
    offsets = columns[small] * mask.size[0]
    turned = np.concatenate([mask.edges, offsets + starts[small], offsets + stops[small]])
    if len(mask.edges) % 2:  # the mask reaches its last pixel
        turned = np.append(turned, mask.size[0] * mask.size[1])
    places, counts = np.unique(turned, return_counts=True)
    return RunLengths.of_edges(mask.size, places[counts % 2 == 1])


def _first_largest(
    regions: np.ndarray, areas: np.ndarray, columns: np.ndarray, starts: np.ndarray
) -> np.intp:
    """Return the region with the largest area; of equals, the one that begins in a higher row."""
    largest = np.flatnonzero(areas == areas.max())
    order = np.lexsort([columns[largest], starts[largest]])
    return regions[largest[order[0]]]


def _regions(columns: np.ndarray, starts: np.ndarray, stops: np.ndarray, height: int) -> np.ndarray:
    """Return for every segment the lowest index of the segments that are connected with it."""
    stride = height + 2  # keys of different columns do not meet, even with a row beyond the last
    first = np.searchsorted(columns * stride + stops, (columns + 1) * stride + starts, "left")
    end = np.searchsorted(columns * stride + starts, (columns + 1) * stride + stops, "right")
    touching = end - first  # segments in the next column
    left = np.repeat(np.arange(len(columns)), touching)
    before = np.repeat(touching.cumsum() - touching, touching)
    right = np.repeat(first, touching) + np.arange(len(left)) - before
    roots = np.arange(len(columns))
    while True:
        one, other = roots[left], roots[right]
        if (one == other).all():
            return roots
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while (roots[roots] != roots).any():
            roots = roots[roots]
