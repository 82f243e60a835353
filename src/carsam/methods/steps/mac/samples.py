"""What enters an attention's projections, image by image, as the float unit runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from carsam.families.base import Site, State, sites_of_stages
from carsam.methods.base import Unit
from carsam.methods.inspecting.operands import product_inputs
from carsam.simulation import slots

Inputs = Mapping[str, Tensor]
"""Inputs of the projections for one image: (batch, tokens, channels) by operand."""

ELEMENTS_AT_ONCE = 1 << 18  # of an input: a few such tensors fit a processor's cache


class AttentionSamples:
    """Inputs of the three projections of one attention, however often they are iterated.

    The first images are remembered up to a limit; for the others the unit runs anew each
    time, up to the attention. Where the unit begins with the attention there is nothing to run, and
    none are remembered. Boxes of one image make up its batch.

    Args:
        unit: whose weights are still float.
        site: of the attention.
        states: before the unit, one per image.
        gigabytes: most that is remembered, in memory or on the temporary disk.

    Iterating yields, for each image, (batch, tokens, channels) by operand; a batch of 1 is shared
    by all boxes.
    """

    def __init__(self, unit: Unit, site: Site, states: Sequence[State], gigabytes: float) -> None:
        self._unit, self._site, self._states = unit, site, states
        self._room = gigabytes * 1e9
        self._kept: list[Sequence[State]] = []  # one state each
        (_, first), *_ = sites_of_stages(unit.plan.stages, tuple(dict(unit.sites)))
        self._full = site in first
        self.scaling = 0.0
        self.heads = 0
        self._run(0)

    def __iter__(self) -> Iterator[Inputs]:
        for index in range(len(self._states)):
            if index < len(self._kept):
                yield self._kept[index][0]
                continue
            inputs = self._run(index)
            size = sum({t.data_ptr(): t.nbytes for t in inputs.values()}.values())
            self._full = self._full or not self.has_room(size)
            if not self._full:
                self._kept.append(self._unit.keep([inputs]))
            yield inputs

    def has_room(self, size: int) -> bool:
        """Take so many bytes of what may be remembered, if so many are left."""
        fits = size <= self._room
        self._room -= size if fits else 0
        return fits

    def forget(self) -> None:
        """Free what is remembered."""
        self._kept = []

    def _run(self, index: int) -> dict[str, Tensor]:
        inputs: dict[str, Tensor] = {}
        with self._caught(inputs):
            entered = product_inputs(self._unit, self._site, self._states[index])
        self.heads, self.scaling = entered[0].shape[1], entered[3]
        return inputs

    @contextmanager
    def _caught(self, inputs: dict[str, Tensor]) -> Iterator[None]:
        """Put into `inputs` what enters the projections, which compute nothing meanwhile."""
        model, attention = self._unit.model, self._site.attention
        assert attention is not None
        layers = slots.projections(model, self._site)
        paths = dict(zip(layers, attention.projections, strict=True))
        try:
            for operand, layer in layers.items():
                model.set_submodule(paths[operand], _Catcher(operand, len(layer.weight), inputs))
            yield
        finally:
            for operand, layer in layers.items():
                model.set_submodule(paths[operand], layer)


class _Catcher(nn.Module):
    """Stands in for a projection and takes its inputs; what it returns has the shape only.

    Args:
        operand: that the projection makes.
        width: of its outputs.
        inputs: of the projections, by operand.
    """

    def __init__(self, operand: str, width: int, inputs: dict[str, Tensor]) -> None:
        super().__init__()
        self._operand, self._width, self._inputs = operand, width, inputs

    def forward(self, values: Tensor) -> Tensor:
        """Take (images, boxes, tokens, channels)."""
        self._inputs[self._operand] = values.flatten(0, -3)  # (images * boxes, tokens, channels)
        return values.new_zeros(()).expand(*values.shape[:-1], self._width)


def boxes_at_once(inputs: Inputs) -> int:
    """Return of how many boxes operands stay in a processor's cache; all if they share an input."""
    count = max(len(each) for each in inputs.values())
    if any(len(each) == 1 for each in inputs.values()):
        return count
    largest = max(each[0].numel() for each in inputs.values())
    return min(count, max(1, ELEMENTS_AT_ONCE // largest))


def by_boxes(inputs: Inputs, at_once: int) -> Iterator[Inputs]:
    """Yield an image's inputs for so many boxes at once."""
    count = max(len(each) for each in inputs.values())
    if at_once >= count:
        yield inputs
        return
    for first in range(0, count, at_once):
        yield {operand: each[first : first + at_once] for operand, each in inputs.items()}
