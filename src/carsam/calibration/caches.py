"""Activations between units, in memory as far as a budget reaches and on disk beyond it."""

import mmap
import shutil
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from carsam.calibration.state_lists import Part
from carsam.errors import UserError
from carsam.families.base import State
from carsam.formats.files import is_disk_full
from carsam.formats.locks import locked, release, try_lock
from carsam.system import freed_memory

PREFIX, LOCK = "carsam-activations-", ".lock"
LARGE = 1 << 17  # bytes of a tensor that gets pages of its own


class StateCache:
    """Keeps lists of states; tensors that do not fit the budget are written to `folder`.

    A tensor that several states share, of one list or of several, is counted, and written, once:
    a unit's inputs and outputs share whatever it does not change.

    Args:
        budget: bytes of all tensors together that stay in memory.
        folder: existing folder for the rest.
    """

    def __init__(self, budget: float, folder: Path) -> None:
        self.budget, self.folder = budget, folder
        self._sizes: dict[int, int] = {}  # bytes in memory by tensor
        self._read: dict[int, _OnDisk] = {}  # where tensors that were read lie
        self._copies: dict[int, Tensor] = {}  # of tensors that are alive, by their id
        self._files = 0

    def keep(self, states: Iterable[State]) -> "CachedStates":
        """Take states one by one, so that never more than the budget is in memory.

        The list that is returned frees its memory and its files with `close`.
        """
        cached = CachedStates()
        for state in states:
            cached.append({name: self._kept(state[name]) for name in sorted(state)})
            freed_memory.limit()
        return cached

    def used(self) -> int:
        """Return the bytes in memory."""
        return sum(self._sizes.values())

    def _kept(self, tensor: Tensor) -> "Tensor | _OnDisk":
        """Return a tensor that stays in memory, or the file that it is in.

        Both give back the same layout in memory: sums and random draws must not depend on where a
        tensor was.
        """
        tensor = tensor.contiguous()
        if id(tensor) in self._read:
            return self._read[id(tensor)]
        if id(tensor) in self._copies:
            return self._copies[id(tensor)]
        if id(tensor) not in self._sizes:
            if self.used() + tensor.nbytes > self.budget:
                self._files += 1
                return _OnDisk(tensor, self.folder / f"{self._files:06d}", self._read)
            copy = _in_own_pages(tensor)
            if copy is not tensor:
                self._copies[id(tensor)] = copy
                weakref.finalize(tensor, self._copies.pop, id(tensor), None)
                tensor = copy
            self._sizes[id(tensor)] = tensor.nbytes
            weakref.finalize(tensor, self._sizes.pop, id(tensor), None)
        return tensor


def _in_own_pages(tensor: Tensor) -> Tensor:
    """Return a copy of a large tensor in pages of its own.

    Among the temporaries of a model, one tensor that stays splits the room that a large one has
    left, and the heap grows by as much for every image.
    """
    if tensor.nbytes < LARGE or tensor.device.type != "cpu":
        return tensor
    pages = mmap.mmap(-1, tensor.nbytes)
    return torch.frombuffer(pages, dtype=tensor.dtype).view(tensor.shape).copy_(tensor.detach())


class _OnDisk:
    """A tensor in a file, which vanishes with this object.

    Args:
        path: of the file, which is written now.
        read: told, as long as the tensor is in memory again, where it lies.
    """

    def __init__(self, tensor: Tensor, path: Path, read: "dict[int, _OnDisk]") -> None:
        self._path, self._read = path, read
        self._dtype, self._shape, self._device = tensor.dtype, tensor.shape, tensor.device
        self._tensor: weakref.ref[Tensor] = weakref.ref(tensor)
        self._remember(tensor)
        weakref.finalize(self, path.unlink, missing_ok=True)
        _write(tensor, path)

    def tensor(self) -> Tensor:
        """Read the tensor; while it is in memory there is only one of it."""
        tensor = self._tensor()
        if tensor is None:
            numbers = torch.from_numpy(np.fromfile(self._path, np.uint8))
            tensor = numbers.view(self._dtype).view(self._shape).to(self._device)
            self._tensor = weakref.ref(tensor)
            self._remember(tensor)
        return tensor

    def _remember(self, tensor: Tensor) -> None:
        self._read[id(tensor)] = self
        weakref.finalize(tensor, self._read.pop, id(tensor), None)


class CachedStates(Sequence[State]):
    """A list of states, one per image, partly on disk."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Tensor | _OnDisk]] = []

    def append(self, entry: dict[str, Tensor | _OnDisk]) -> None:
        """Keep one more state."""
        self._entries.append(entry)

    def close(self) -> None:
        """Free memory and files."""
        self._entries = []

    def taken(self) -> Iterator[State]:
        """Yield the states, each freed when the next one is asked for; the list ends empty."""
        self._entries.reverse()
        while self._entries:
            yield _in_memory(self._entries.pop())

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> State: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[State]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Part(self, range(*index.indices(len(self))))
        return _in_memory(self._entries[index])


def _in_memory(entry: dict[str, Tensor | _OnDisk]) -> State:
    return {name: t.tensor() if isinstance(t, _OnDisk) else t for name, t in entry.items()}


@contextmanager
def state_cache(budget: float, folder: Path) -> Iterator[StateCache]:
    """Give a cache whose files live in a temporary folder below `folder` and vanish with it.

    What killed processes have left there is removed first.

    Args:
        budget: bytes to keep in memory.
        folder: where the disk is.
    """
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
        file = try_lock(lock, sure=True)
    except UserError:  # another user's
        return
    if file is not None:
        shutil.rmtree(lock.with_name(lock.name.removesuffix(LOCK)), ignore_errors=True)
        release(file, lock)


def _write(tensor: Tensor, path: Path) -> None:
    try:
        with path.open("wb") as file:
            file.write(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise UserError(
            f"The disk of {path.parent} is full: activations that do not fit the memory go there. "
            "Free some space, name another folder with TMPDIR, or allow more memory (--memory). "
            "Started again, a run with an output folder goes on after its last finished unit."
        ) from error
