"""Activations between units, in memory as far as a budget reaches and on disk beyond it."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from carsam.errors import UserError
from carsam.families.base import State
from carsam.formats.files import is_disk_full
from carsam.formats.locks import locked, release, try_lock

PREFIX, LOCK = "carsam-activations-", ".lock"


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
        _write(state, path)
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
            return _Part(self, range(*index.indices(len(self))))
        entry = self._entries[index]
        if isinstance(entry, tuple):
            path, device = entry
            loaded = load_file(path, device=str(device))
            return {name: loaded[name] for name in sorted(loaded)}
        return entry


class _Part(Sequence[State]):
    """Some of the states of a list, read when they are asked for."""

    def __init__(self, states: Sequence[State], places: range) -> None:
        self._states, self._places = states, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Part(self._states, self._places[index])
        return self._states[self._places[index]]


@contextmanager
def state_cache(memory: float | None, folder: Path) -> Iterator[StateCache]:
    """Give a cache whose files live in a temporary folder below `folder` and vanish with it.

    What killed processes have left there is removed first.

    Args:
        memory: gigabytes to keep in memory; None for no limit.
        folder: where the disk is.
    """
    budget = float("inf") if memory is None else memory * 1e9
    for lock in folder.glob(f"{PREFIX}*{LOCK}"):
        _remove_if_left(lock)
    temporary = folder / f"{PREFIX}{uuid4().hex}"
    lock = temporary.with_name(temporary.name + LOCK)
    with locked(lock, f"Another process has the temporary folder {temporary}."):
        temporary.mkdir(mode=0o700)
        try:
            yield StateCache(budget, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _remove_if_left(lock: Path) -> None:
    """Remove the files of a cache, and its lock, unless the process that has them is alive."""
    try:
        file = try_lock(lock)
    except UserError:  # another user's
        return
    if file is not None:
        shutil.rmtree(lock.with_name(lock.name.removesuffix(LOCK)), ignore_errors=True)
        release(file, lock)


def _write(state: State, path: Path) -> None:
    try:
        save_file({name: tensor.clone() for name, tensor in state.items()}, path)  # own memory
    except (OSError, SafetensorError) as error:
        if not is_disk_full(error):
            raise
        path.unlink(missing_ok=True)
        raise UserError(
            f"The disk of {path.parent} is full: activations that do not fit the memory go there. "
            "Free some space, name another folder with TMPDIR, or allow more memory (--memory). "
            "Started again, a run with an output folder goes on after its last finished unit."
        ) from error
