"""Activations between units, in memory as far as a budget reaches and on disk beyond it."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import torch
from safetensors.torch import load_file, save_file

from carsam.families.base import State


class StateCache:
    """Keeps lists of states; those that do not fit the budget are written to `folder`.

    A tensor that several states share, such as the image's positions, is counted and kept once.

    Args:
        budget: bytes of all lists together that stay in memory.
        folder: existing folder for the rest.
    """

    def __init__(self, budget: float, folder: Path) -> None:
        self.budget, self.folder = budget, folder
        self._sizes: dict[int, int] = {}  # bytes in memory by list
        self._files = 0

    def keep(self, states: Iterable[State]) -> "CachedStates":
        """Take states one by one, so that never more than the budget is in memory.

        The list that is returned frees its memory and its files with `close`.
        """
        cached = CachedStates(self)
        for state in states:
            cached.append(state)
        return cached

    def used(self) -> int:
        """Return the bytes in memory."""
        return sum(self._sizes.values())

    def count_(self, holder: int, size: int) -> None:
        """Set what one list holds in memory."""
        self._sizes[holder] = size

    def release_(self, holder: int) -> None:
        """Forget a list."""
        self._sizes.pop(holder, None)

    def new_file(self) -> Path:
        """Return a path that was not used before."""
        self._files += 1
        return self.folder / f"state-{self._files:06d}.safetensors"


class CachedStates(Sequence[State]):
    """A list of states, one per image, partly on disk."""

    def __init__(self, cache: StateCache) -> None:
        self._cache = cache
        self._entries: list[State | tuple[Path, torch.device]] = []
        self._counted: dict[int, int] = {}  # bytes by tensor, so that shared ones count once

    def append(self, state: State) -> None:
        """Keep one more state, in memory if it fits the budget.

        Both ways give back the same order of entries and layout in memory: sums and random draws
        must not depend on where a state was.
        """
        state = {name: state[name].contiguous() for name in sorted(state)}
        new = {id(t): t.nbytes for t in state.values() if id(t) not in self._counted}
        if self._cache.used() + sum(new.values()) <= self._cache.budget:
            self._counted |= new
            self._cache.count_(id(self), sum(self._counted.values()))
            self._entries.append(state)
            return
        path = self._cache.new_file()
        device = next(iter(state.values())).device
        save_file({name: tensor.clone() for name, tensor in state.items()}, path)  # own memory
        self._entries.append((path, device))

    def close(self) -> None:
        """Free memory and files."""
        for entry in self._entries:
            if isinstance(entry, tuple):
                entry[0].unlink(missing_ok=True)
        self._entries, self._counted = [], {}
        self._cache.release_(id(self))

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> State: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[State]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        entry = self._entries[index]
        if isinstance(entry, tuple):
            path, device = entry
            loaded = load_file(path, device=str(device))
            return {name: loaded[name] for name in sorted(loaded)}
        return entry


@contextmanager
def state_cache(memory: float | None, folder: Path) -> Iterator[StateCache]:
    """Give a cache whose files live in a temporary folder below `folder` and vanish with it.

    Args:
        memory: gigabytes to keep in memory; None for no limit.
        folder: where the disk is.
    """
    budget = float("inf") if memory is None else memory * 1e9
    with tempfile.TemporaryDirectory(prefix="carsam-", dir=folder) as temporary:
        yield StateCache(budget, Path(temporary))
