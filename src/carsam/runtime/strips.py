"""Large images are worked on in strips, so that what is between two steps stays small."""

from collections.abc import Iterator

TOKENS_AT_ONCE = 4096
"""Tokens of a strip, unless a step of lines has more."""


def strips(height: int, width: int, step: int = 1) -> Iterator[tuple[int, int]]:
    """Yield the first line of each strip of an image, and the line behind its last.

    Args:
        height, width: of the image.
        step: lines that belong together, such as those of windows; strips have whole steps.
    """
    lines = max(1, TOKENS_AT_ONCE // (width * step)) * step
    for first in range(0, height, lines):
        yield first, min(height, first + lines)
