"""Large images in strips of rows, so that what is made of them one by one takes little memory."""

from collections.abc import Iterator

STRIP_PIXELS = 1 << 20
"""Pixels of a strip, about."""


def strips(height: int, width: int) -> Iterator[slice]:
    """Cut an image of that many pixels into slices of its rows, each of about `STRIP_PIXELS`."""
    rows = max(1, STRIP_PIXELS // max(1, width))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))
