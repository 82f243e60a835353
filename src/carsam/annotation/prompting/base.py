"""What a way to prompt the images of a source is."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from carsam.annotation.items import ErrorRecord, Item, MaskRecord
from carsam.evaluation.ids import Id
from carsam.predict.predictor import SamPredictor


class Request(Protocol):
    """What is asked on one image."""

    @property
    def image_id(self) -> Id: ...


class Prompting(Protocol):
    """Asks for masks of images. It can be pickled.

    `identity` says what is asked, so that an annotation goes on with the same only, and
    `categories` are the names of the masks' categories by id.
    """

    identity: str
    categories: Mapping[Id, str]

    def request(self, item: Item) -> Any | None:
        """Return what is asked on an image, a `Request`; None where it is not to be annotated."""
        ...

    def masks(
        self, predictor: SamPredictor, item: Item, request: Any
    ) -> Iterator[MaskRecord | ErrorRecord]:
        """Yield what is found on the image that is set, and what could not be asked."""
        ...
