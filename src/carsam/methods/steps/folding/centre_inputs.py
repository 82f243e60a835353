"""Means of what the decoder's layers read move into biases, before any unit is quantized."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from carsam.families.base import SharedOffset
from carsam.methods.base import WholeModel, WholeModelStep
from carsam.methods.order import ALL
from carsam.methods.steps.training.mask_loss import run_stages
from carsam.simulation.layers import QuantizedLayer
from carsam.simulation.stored import as_stored, store_


@dataclass(frozen=True)
class CentreInputs(WholeModelStep):
    """Take the mean m of every channel out of what several layers read.

    The tokens x after a norm of a two-way block go to linears W x + b, some with positions added,
    and with the output of one of them to the next norm. With x - m in place of x,

        b becomes b + W m for every reader, and b + m for the one whose output is added

    and nothing else changes. The norm's bias takes the -m; for the first block's image tokens it
    is the embedding that stands for no mask, and the bias after a mask. One grid per tensor
    wastes its codes on means that differ from channel to channel.
    """

    changes_encoder = False
    precedes = ALL

    def run_(self, whole: WholeModel) -> None:
        """Centre the inputs, on the means over all images."""
        offsets = [stage.shared for stage in whole.stages if stage.shared is not None]
        means = _means(whole, offsets)
        for offset, mean in zip(offsets, means, strict=True):
            move_(whole.model, offset, mean)
        for offset in offsets:
            for path in (*offset.readers, offset.adder):
                bias = whole.model.get_submodule(path).layer.bias
                if bias is not None:
                    store_(bias, bias)


def move_(model: Any, offset: SharedOffset, mean: Tensor) -> None:
    """Move a constant (channels,), as far as fp16 holds what it leaves, into biases."""
    readers = [model.get_submodule(path).layer for path in offset.readers]
    adder = model.get_submodule(offset.adder).layer
    if any(layer.bias is None for layer in (*readers, adder)):
        return
    first, *others = (_parameter(model, name) for name in offset.offsets)
    reduced = as_stored(first - mean)
    moved = (first - reduced).flatten()
    first.copy_(reduced)
    for other in others:
        store_(other, other - moved)
    for layer in readers:
        layer.bias.data += layer.weight @ moved
    adder.bias.data += moved


def _parameter(model: Any, name: str) -> Tensor:
    """Return a parameter by its name in the model before its layers were made quantizable."""
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    module = module.layer if isinstance(module, QuantizedLayer) else module
    parameter: Tensor = getattr(module, last).data
    return parameter


def _means(whole: WholeModel, offsets: Sequence[SharedOffset]) -> list[Tensor]:
    """Run the float model on every image; return the mean input of each offset's first reader."""
    sums: list[Any] = [0.0] * len(offsets)
    counts = [0] * len(offsets)

    def add(place: int, rows: Tensor) -> None:
        sums[place] = sums[place] + rows.double().sum(0)
        counts[place] += len(rows)

    with _hooked([whole.model.get_submodule(offset.readers[0]) for offset in offsets], add):
        for state in whole.states:
            run_stages(whole.model, whole.stages, state)
    return [(total / count).float() for total, count in zip(sums, counts, strict=True)]


@contextmanager
def _hooked(modules: Sequence[nn.Module], add: Any) -> Iterator[None]:
    """Give the rows that enter each module to `add`, with the module's place."""
    handles = []
    for place, module in enumerate(modules):

        def watch(_: nn.Module, inputs: tuple[Tensor, ...], place: int = place) -> None:
            add(place, inputs[0].flatten(0, -2))

        handles.append(module.register_forward_pre_hook(watch))
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()
