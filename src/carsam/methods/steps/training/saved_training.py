"""A training that goes on where it was stopped, with the bits of one that never was."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carsam.formats.journal import Entry, Item

SECONDS_BETWEEN_SAVES = 45.0
LARGEST_SHARE = 0.1
"""Of the time that saving may take: where it takes long, it is done less often."""


@dataclass
class SavedTraining:
    """All that decides how a training goes on, and its place on disk.

    Args:
        trained: what the optimiser changes, in the order of its groups.
        optimizer: with Adam's moments.
        rates: schedule of the optimiser's rates.
        random: draws what each step takes.
        entry: where to keep it all; None keeps nothing.
        facts: JSON values that a resumed training needs to know of its beginning.
        order: images to take next, the next one last; changed in place.
        done: steps so far.
    """

    trained: Sequence[Tensor]
    optimizer: torch.optim.Optimizer
    rates: torch.optim.lr_scheduler.LRScheduler
    random: np.random.Generator
    entry: Entry | None
    facts: dict[str, Any]
    order: list[int] = field(default_factory=list)
    done: int = 0
    _saved_at: float = field(default_factory=time.monotonic)
    _pause: float = field(default_factory=lambda: SECONDS_BETWEEN_SAVES)

    def resume_(self, item: Item) -> None:
        """Put everything back as `save` found it."""
        document, arrays = item.document, item.arrays
        for index, tensor in enumerate(self.trained):
            tensor.data.copy_(torch.from_numpy(arrays[f"trained.{index}"]))
            moments = {
                key: _like(tensor, arrays[f"{key}.{index}"])
                for key in ("exp_avg", "exp_avg_sq")
                if f"{key}.{index}" in arrays
            }
            if moments:  # what got no gradient has none
                steps = torch.tensor(float(document["steps"][str(index)]), device=tensor.device)
                self.optimizer.state[tensor] = {"step": steps, **moments}
        for group, rate in zip(self.optimizer.param_groups, document["rates"], strict=True):
            group["lr"] = rate
        self.rates.load_state_dict(document["schedule"])
        self.random.bit_generator.state = document["random"]
        self.order[:], self.done = document["order"], document["done"]

    def after_step_(self, last: bool) -> None:
        """Count a step; save when enough time has passed, and after the last one."""
        self.done += 1
        if self.entry is None:
            return
        began = time.monotonic()
        if last or began - self._saved_at >= self._pause:
            self.entry.store(self._item())
            self._saved_at = time.monotonic()
            spent = self._saved_at - began
            self._pause = max(SECONDS_BETWEEN_SAVES, spent / LARGEST_SHARE)

    def _item(self) -> Item:
        arrays, steps = {}, {}
        for index, tensor in enumerate(self.trained):
            arrays[f"trained.{index}"] = _array(tensor)
            state = self.optimizer.state.get(tensor)
            if state:
                steps[str(index)] = float(state["step"])
                for key in ("exp_avg", "exp_avg_sq"):
                    arrays[f"{key}.{index}"] = _array(state[key])
        document = {
            **self.facts,
            "done": self.done,
            "order": self.order,
            "random": self.random.bit_generator.state,
            "rates": [group["lr"] for group in self.optimizer.param_groups],
            "schedule": self.rates.state_dict(),
            "steps": steps,
        }
        return Item(arrays, document)


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _like(tensor: Tensor, array: np.ndarray) -> Tensor:
    """Return an array as a tensor with the layout of another one, on which sums may depend."""
    made = torch.empty_like(tensor, memory_format=torch.preserve_format)
    return made.copy_(torch.from_numpy(array)).detach()
