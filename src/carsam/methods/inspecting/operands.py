"""See what flows through a unit while it runs: in float, or as it is quantized so far."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from carsam.families.base import Site, State
from carsam.grids.observers import Observer
from carsam.methods.base import Unit
from carsam.simulation import slots
from carsam.simulation.attention import is_relative

Key = tuple[Site, str]
"""A site and one of its operands."""

Consumer = Callable[[Tensor], None]


class Listener(nn.Module):
    """Shows what a quantizer returns to a consumer."""

    def __init__(self, quantizer: nn.Module, consume: Consumer) -> None:
        super().__init__()
        self._quantizer, self._consume = quantizer, consume
        self.relative_to_maximum = is_relative(quantizer)

    def forward(self, values: Tensor) -> Tensor:
        """Quantize, show, pass on."""
        quantized: Tensor = self._quantizer(values)
        self._consume(quantized)
        return quantized


@contextmanager
def replaced(model: Any, quantizers: Mapping[Key, nn.Module]) -> Iterator[None]:
    """Put modules into some slots for a while."""
    before = {key: slots.quantizer(model, *key) for key in quantizers}
    try:
        for key, module in quantizers.items():
            slots.set_quantizer_(model, *key, module)
        yield
    finally:
        for key, module in before.items():
            slots.set_quantizer_(model, *key, module)


@contextmanager
def in_float(unit: Unit) -> Iterator[None]:
    """Take all quantizers out of a unit for a while; rounded weights stay."""
    keys = [(site, operand) for site, _ in unit.sites for operand in slots.operands(site)]
    with replaced(unit.model, {key: nn.Identity() for key in keys}):
        yield


@contextmanager
def listening(unit: Unit, consumers: Mapping[Key, Consumer]) -> Iterator[None]:
    """Show what the quantizers in some slots return, each to its consumer."""
    taps = {
        key: Listener(slots.quantizer(unit.model, *key), consume)
        for key, consume in consumers.items()
    }
    with replaced(unit.model, taps):
        yield


def run(unit: Unit, states: Iterable[State]) -> None:
    """Run a unit for what others see of it."""
    for state in states:
        unit.plan.run(unit.model, state)


class _Reached(Exception):
    """The run has come as far as it is to go."""


def product_inputs(unit: Unit, site: Site, state: State) -> tuple[Any, ...]:
    """Run a unit up to an attention's product, and return what enters that.

    Query, key and value (batch or 1, heads, tokens, d), the scaling, and the relative positions, if
    there are any.
    """
    entered: list[Any] = []

    def reached(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        entered.extend(arguments)
        raise _Reached

    handle = slots.multiplier(unit.model, site).register_forward_pre_hook(reached)
    try:
        unit.plan.run(unit.model, state)
    except _Reached:
        return tuple(entered)
    finally:
        handle.remove()
    raise RuntimeError(f"{site.path} was not reached when its unit ran.")


def value_at(unit: Unit, key: Key, state: State) -> Tensor:
    """Return what the quantizer in a slot returns (its first piece), and run no further."""
    seen: list[Tensor] = []

    def reached(values: Tensor) -> None:
        seen.append(values)
        raise _Reached

    with listening(unit, {key: reached}):
        try:
            unit.plan.run(unit.model, state)
        except _Reached:
            return seen[0]
    raise RuntimeError(f"{key[0].path} was not reached when its unit ran.")


def observe_again_(unit: Unit, keys: Iterable[Key]) -> None:
    """Renew the statistics of some operands, after a step has changed the unit in float."""
    past = {key: unit.statistics[key[0].path, key[1]] for key in keys}
    observers = {
        (site, operand): Observer(site.path, operand, statistics.histogram is not None)
        for (site, operand), statistics in past.items()
    }
    with in_float(unit), replaced(unit.model, observers):
        for state in unit.inputs:
            unit.plan.run(unit.model, state)
            for observer in observers.values():
                observer.end_image()
    for (site, operand), observer in observers.items():
        unit.statistics[site.path, operand] = observer.statistics
