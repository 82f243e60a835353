"""What a source of images is."""

from collections.abc import Callable
from typing import Protocol

from carsam.annotation.items import Item, Part
from carsam.progress import Progress

Wanted = Callable[[Item], bool]
"""Tells whether an image is to be annotated."""


class Source(Protocol):
    """Images from somewhere."""

    def parts(self, size: int, wanted: Wanted, progress: Progress) -> list[Part]:
        """Return the wanted images in parts of about `size`, always the same for the same images.

        Where only reading tells an image's name, all are in a part, and whoever reads it asks.

        Raises:
            UserError: there is no image.
        """
        ...
