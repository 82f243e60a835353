"""Fields of requests in JSON, each of the type that is expected."""

import json
import math
from typing import Any, TypeVar

from carsam.serve.refusals import wrong

T = TypeVar("T")

NAMES: dict[type, str] = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "an integer",
    list: "a list",
    str: "a text",
}


def parse(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds.

    Raises:
        Refused: it is no JSON, or no object.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise wrong("The body of the request is no JSON; expected an object in JSON.") from None
    return checked(found, dict, "the body of the request")


def checked(value: Any, kind: type[T], what: str) -> T:
    """Return a value that is of a type of JSON.

    Raises:
        Refused: it is not.
    """
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1e30 else math.inf
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise wrong(f"Found {_shown(value)} for {what}; expected {NAMES[kind]}.")
    return value


def field(request: dict[str, Any], name: str, kind: type[T]) -> T:
    """Return a field that must be there.

    Raises:
        Refused: it is not there, or of another type.
    """
    if name not in request:
        raise wrong(f"The request has no {name!r}; expected {NAMES[kind]}.")
    return checked(request[name], kind, repr(name))


def optional(request: dict[str, Any], name: str, kind: type[T], default: T) -> T:
    """Return a field, or what stands for one that is not there or null.

    Raises:
        Refused: it is of another type.
    """
    return default if request.get(name) is None else checked(request[name], kind, repr(name))


def known(request: dict[str, Any], *names: str) -> None:
    """Refuse fields of other names: a misspelt one would have no effect.

    Raises:
        Refused: there is one.
    """
    for name in request:
        if name not in names:
            raise wrong(f"Found a field {_shown(name)}; expected {', '.join(names)}.")


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | None) else NAMES[type(value)]
    return text if len(text) <= 60 else text[:60] + " ..."
