"""Ids as jsons write them: whole numbers of any size and sign, or text; only equality matters."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

Id = int | str
"""The id of an image, an annotation or a category, as the json gives it; 1.0 is 1."""

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,4000}(\.0*)?")  # Python refuses to read longer ones


def parse_id(value: Any) -> Id | None:
    """Return the id that a json value gives, None where it gives none."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else str(value)
    if isinstance(value, str):
        return value if value.strip() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count_from_one(ids: Iterable[Id]) -> dict[Id, int]:
    """Return a number for each id, 1 for the first."""
    return {identity: number for number, identity in enumerate(ids, 1)}


class IdTable:
    """The ids that a json lists, found by what its other entries call them."""

    def __init__(self, ids: Iterable[Id] = ()) -> None:
        self._ids: dict[Id, None] = {}
        self._alike: dict[Id, list[Id]] = defaultdict(list)
        for identity in ids:
            self.add(identity)

    @property
    def ids(self) -> tuple[Id, ...]:
        """The ids, each once, in the order in which they came."""
        return tuple(self._ids)

    def add(self, identity: Id) -> None:
        """Add an id; one that is there already stays where it is."""
        if identity not in self._ids:
            self._ids[identity] = None
            self._alike[_without_spelling(identity)].append(identity)

    def find(self, identity: Id) -> Id | None:
        """Return the listed id that is meant, None where there is none.

        That is the very same id, or else the only one of the same number: "000139" and "139"
        mean 139.
        """
        if identity in self._ids:
            return identity
        alike = self._alike.get(_without_spelling(identity), ())
        return alike[0] if len(alike) == 1 else None


def _without_spelling(identity: Id) -> Id:
    if isinstance(identity, int):
        return identity
    text = identity.strip()
    return int(text.split(".")[0]) if _WHOLE_NUMBER.fullmatch(text) else text
