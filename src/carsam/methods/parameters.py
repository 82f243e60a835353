"""Which values the parameters of steps may have: a type and, beside it, the numbers that fit.

A step annotates a field with one of these, such as `steps: Count = 300`; `registry.make_recipe`
refuses what does not fit.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin


@dataclass(frozen=True)
class Between:
    """Finite numbers from `low` to `high`.

    Args:
        beyond: `low` itself does not fit.
    """

    low: float
    high: float = math.inf
    beyond: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.beyond else value >= self.low
        return above and value <= self.high and math.isfinite(value)

    def __str__(self) -> str:
        low = f"{'above' if self.beyond else 'from'} {self.low:g}"
        if math.isinf(self.high):
            return low if self.beyond else f"{low} on"
        return f"{low} to {self.high:g}"


Count = Annotated[int, Between(1)]
CountFromZero = Annotated[int, Between(0)]
Share = Annotated[float, Between(0, 1)]
Positive = Annotated[float, Between(0, beyond=True)]
NotNegative = Annotated[float, Between(0)]

IN_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}


def fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of a field's type, and within its limits."""
    base, limits = _parts(kind)
    if base is bool:
        return isinstance(value, bool)
    if base in (int, float):
        number = isinstance(value, int | base) and not isinstance(value, bool)
        return number and (limits is None or value in limits)
    return True  # steps check their words themselves


def in_words(kind: Any) -> str:
    """Say what a field takes, such as `a number from 0 to 1`."""
    base, limits = _parts(kind)
    return IN_WORDS[base] if limits is None else f"{IN_WORDS[base]} {limits}"


def _parts(kind: Any) -> tuple[Any, Between | None]:
    if get_origin(kind) is Annotated:
        base, limits = get_args(kind)
        return base, limits
    return kind, None
