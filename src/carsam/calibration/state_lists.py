"""Lists of states that make their states when they are asked for."""

from collections.abc import Sequence
from typing import Any

from carsam.families.base import State


class Part(Sequence[State]):
    """Some of the states of a list."""

    def __init__(self, states: Sequence[State], places: range) -> None:
        self._states, self._places = states, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Part(self._states, self._places[index])
        return self._states[self._places[index]]


class Joined(Sequence[State]):
    """The states of one list, then those of another."""

    def __init__(self, first: Sequence[State], second: Sequence[State]) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Part(self, range(*index.indices(len(self))))
        place = range(len(self))[index]
        beyond = place - len(self._first)
        return self._first[place] if beyond < 0 else self._second[beyond]
