"""What a form of results is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from carsam.annotation.items import Annotations
from carsam.evaluation.ids import Id


@dataclass(frozen=True)
class About:
    """What all results of one model have in common.

    Args:
        categories: names by id.
        info: what they were made with, as json values.
        first_id: id of the first annotation, where the form has whole numbers for them.
    """

    categories: Mapping[Id, str]
    info: Mapping[str, Any]
    first_id: int = 1


@dataclass(frozen=True)
class Output:
    """A form of results.

    Args:
        ending: of its files.
        content: turns what was found into the bytes of a file.
        packages: of the extra `annotate` that it needs.
    """

    ending: str
    content: Callable[[Annotations, About], bytes]
    packages: tuple[str, ...] = ()
