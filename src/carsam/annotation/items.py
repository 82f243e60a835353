"""What goes through an annotation: images as a source names them, and what was found on them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from carsam.evaluation.ids import Id
from carsam.images.run_lengths import RunLengths

NO_PIXEL = "The model's mask has no pixel."
"""Why a prompt has no mask, as readers of COCO's files refuse empty ones."""


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Args:
        name: its path in the source.
        id: what the source calls it, or None.
        number: counts the source's images from 1; stands in for the id where there is none.
        size: height and width that the source says it has, or None.
        named: false where the source has no name for it, and `name` only says where it lies.
    """

    name: str
    id: Id | None
    number: int
    size: tuple[int, int] | None = None
    named: bool = True


Reader = Callable[[], bytes]
"""Returns an image's bytes; a UserError says why they cannot be read."""


class Part(Protocol):
    """Images that are annotated together, in one process. It can be pickled."""

    @property
    def images(self) -> int | None:
        """How many there are at most, or None where only reading tells."""
        ...

    @property
    def key(self) -> str:
        """Says which images these are, to recognise the part again."""
        ...

    def __iter__(self) -> Iterator[tuple[Item, Reader]]:
        """Read one image after the other.

        Raises:
            UserError: what holds the images is damaged or missing.
        """
        ...


@dataclass(frozen=True)
class ImageRecord:
    """An image that was annotated; sizes in pixels."""

    id: Id
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class MaskRecord:
    """One mask.

    Args:
        image_id: the image.
        category_id: of the object, or None where nothing says it.
        mask: as large as the image.
        score: the model's predicted IoU.
        prompt_id: id of the annotation, or place of the detection, whose box was asked; or None.
        detection_score: the detector's, where one made the box.
        stability_score: how little the mask depends on the threshold of its logits, where nothing
            was prompted.
    """

    image_id: Id
    category_id: Id | None
    mask: RunLengths
    score: float
    prompt_id: Id | None = None
    detection_score: float | None = None
    stability_score: float | None = None


@dataclass(frozen=True)
class ErrorRecord:
    """An image, or one box on it, without a mask, and why."""

    image_id: Id | None
    file_name: str
    error: str
    prompt_id: Id | None = None


@dataclass
class Annotations:
    """What was found on the images of one part."""

    images: list[ImageRecord] = field(default_factory=list)
    masks: list[MaskRecord] = field(default_factory=list)
    errors: list[ErrorRecord] = field(default_factory=list)


def cut(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Return the items in groups of `size`, the last of them perhaps smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]
