"""Statistics of one unit's float activations, taken in the pass that computes them anyway."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from carsam.errors import UserError
from carsam.families.base import Site, State
from carsam.grids.observers import Observer, Statistics
from carsam.methods.recipe import Bits
from carsam.methods.units import UnitPlan
from carsam.progress import Progress
from carsam.simulation import slots

Observers = dict[tuple[str, str], Observer]
Counted = Callable[[Site, str], bool]
"""Whether a histogram is kept of an operand of a site."""


def run_observed(
    model: Any,
    plan: UnitPlan,
    inputs: Sequence[State],
    counted: Counted,
    progress: Progress,
    keep: Callable[[Iterable[State]], Sequence[State]] = tuple,
    watched: range | None = None,
) -> tuple[Sequence[State], dict[tuple[str, str], Statistics]]:
    """Run a unit that is still float on every image, once.

    Args:
        counted: of which operands histograms are kept beside the extremes.
        keep: takes the outputs one by one and holds them.
        watched: places of the inputs that statistics are taken of, all unless given; the others
            only run through.

    Returns:
        The states after the unit, and the statistics by site path and operand.

    Raises:
        UserError: an activation is NaN or infinite; site and operand, or the unit, are named.
    """
    watched = range(len(inputs)) if watched is None else watched
    observers: Observers = {}

    def outputs() -> Iterator[State]:
        yield from _outputs(model, plan, inputs[: watched.start], {}, progress)
        with _observers(model, plan.sites, counted) as standing:
            observers.update(standing)
            seen = inputs[watched.start : watched.stop]
            yield from _outputs(model, plan, seen, observers, progress)
        yield from _outputs(model, plan, inputs[watched.stop :], {}, progress)

    kept = keep(outputs())
    return kept, {key: observer.statistics for key, observer in observers.items()}


def _outputs(
    model: Any,
    plan: UnitPlan,
    inputs: Sequence[State],
    observers: Observers,
    progress: Progress,
) -> Iterator[State]:
    for state in inputs:
        output = plan.run(model, state)
        for name in output.keys() & plan.outputs:  # a still passes the units of a memory by
            if not bool(output[name].isfinite().all()):
                raise UserError(f"{plan.name}: its output {name} holds NaN or infinity.")
        for observer in observers.values():
            observer.end_image()
        progress.advance(note=plan.name)
        yield output


@contextmanager
def _observers(
    model: Any, sites: tuple[tuple[Site, Bits], ...], counted: Counted
) -> Iterator[Observers]:
    """Put observers into the slots to be quantized; take them out again whatever happens."""
    watched = [
        (site, operand)
        for site, bits in sites
        if bits.activations is not None
        for operand in slots.operands(site)
    ]
    before = [slots.quantizer(model, site, operand) for site, operand in watched]
    observers: Observers = {}
    for site, operand in watched:
        observer = Observer(site.path, operand, counted(site, operand))
        slots.set_quantizer_(model, site, operand, observer)
        observers[site.path, operand] = observer
    try:
        yield observers
    finally:
        for (site, operand), module in zip(watched, before, strict=True):
            slots.set_quantizer_(model, site, operand, module)
