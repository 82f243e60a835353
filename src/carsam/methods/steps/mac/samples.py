"""What enters an attention's projections, image by image, as the float unit runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from carsam.families.base import Site, State
from carsam.methods.base import Unit
from carsam.simulation import slots

Inputs = Mapping[str, Tensor]
"""Inputs of the projections for one image: (batch, tokens, channels) by operand."""


class AttentionSamples:
    """Inputs of the three projections of one attention, however often they are iterated.

    The first images are remembered up to a limit; for the others the unit runs anew each
    time, up to the attention. Boxes of one image make up its batch.

    Args:
        unit: whose weights are still float.
        site: of the attention.
        states: before the unit, one per image.
        gigabytes: most of remembered inputs, in memory or on the temporary disk.

    Iterating yields, for each image, (batch, tokens, channels) by operand; a batch of 1 is shared
    by all boxes.
    """

    def __init__(self, unit: Unit, site: Site, states: Sequence[State], gigabytes: float) -> None:
        self._unit, self._site, self._states = unit, site, states
        self._room = gigabytes * 1e9
        self._kept: list[Sequence[State]] = []  # one state each
        self._full = False
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
            self._full = self._full or size > self._room
            if not self._full:
                self._room -= size
                self._kept.append(self._unit.keep([inputs]))
            yield inputs

    def forget(self) -> None:
        """Free what is remembered."""
        self._kept = []

    def _run(self, index: int) -> dict[str, Tensor]:
        inputs: dict[str, Tensor] = {}
        with self._caught(inputs):
            try:
                self._unit.plan.run(self._unit.model, self._states[index])
            except _Reached:
                return inputs
        raise RuntimeError(f"{self._site.path} was not reached when its unit ran.")

    @contextmanager
    def _caught(self, inputs: dict[str, Tensor]) -> Iterator[None]:
        """Put the projections' inputs into `inputs`, and stop the run at the product."""
        product = slots.multiplier(self._unit.model, self._site)

        def reached(product: nn.Module, arguments: tuple[Any, ...]) -> None:
            query, _, _, self.scaling = arguments
            self.heads = query.shape[1]
            raise _Reached

        handles = [product.register_forward_pre_hook(reached)]
        for operand, layer in slots.projections(self._unit.model, self._site).items():

            def catch(_: nn.Module, arguments: tuple[Tensor], operand: str = operand) -> None:
                inputs[operand] = arguments[0].flatten(0, -3)  # (images * boxes, tokens, channels)

            handles.append(layer.register_forward_pre_hook(catch))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Reached(Exception):
    """The run has reached the attention's product."""
