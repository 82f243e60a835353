"""What is said about the files of a folder: a few by name, the rest counted."""

from collections.abc import Callable

from carsam.errors import FEW

Tell = Callable[[str], object]


class Remarks:
    """Tells the first sentences of a kind at once, and at the end how many more there were.

    Args:
        tell: called with each sentence.
        rest: ends the sentence "12 more ...".

    Attributes:
        count: sentences so far.
    """

    def __init__(self, tell: Tell, rest: str) -> None:
        self._tell, self._rest = tell, rest
        self.count = 0

    def add(self, sentence: str) -> None:
        """Tell a sentence about one file, if there were few before."""
        self.count += 1
        if self.count <= FEW:
            self._tell(sentence)

    def finish(self) -> None:
        """Tell how many sentences were left out, if any."""
        if self.count > FEW:
            self._tell(f"{self.count - FEW} more {self._rest}.")


def skipped_images(tell: Tell) -> Remarks:
    """Return what is said about images that cannot be read."""
    return Remarks(tell, "images were skipped")


def deep_images(tell: Tell) -> Remarks:
    """Return what is said about images of more than 8 bits."""
    return Remarks(tell, "images have more than 8 bits; the values they use became 0 to 255")
