"""What a way to prompt the images of a source is."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from carsam.annotation.items import ErrorRecord, Item, MaskRecord
from carsam.engines.base import Engine
from carsam.evaluation.ids import Id
from carsam.images.decode import EncodedImage
from carsam.images.remarks import Tell

Found = tuple[tuple[int, int], list[MaskRecord | ErrorRecord]]
"""Height and width of an image, what is found on it, and what could not be asked."""


class Request(Protocol):
    """What is asked on one image."""

    @property
    def image_id(self) -> Id: ...


Ask = Callable[[EncodedImage, Item, Any, Tell], Found]
"""Asks what a `Request` says on an image; a UserError says why the image cannot be used."""


class Prompting(Protocol):
    """Asks for masks of images. It can be pickled.

    `identity` says what is asked, so that an annotation goes on with the same only, and
    `categories` are the names of the masks' categories by id.
    """

    identity: str
    categories: Mapping[Id, str]

    def request(self, item: Item) -> Request | None:
        """Return what is asked on an image; None where it is not to be annotated."""
        ...

    def asks(self, engine: Engine) -> Ask:
        """Return what asks an engine."""
        ...
