"""How long a quantization is going to take, said before it starts."""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from carsam.calibration.observe import run_observed
from carsam.families.base import Stage, State
from carsam.methods.base import MethodStep, Unit
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.training.reconstruct import Reconstruct
from carsam.methods.units import UnitPlan
from carsam.progress import Silent

PROBE_STEPS = 3


@dataclass(frozen=True)
class UnitTime:
    """What one unit is going to take.

    Args:
        name: of the unit.
        seconds: for all images and steps.
        step_seconds: of one step of training; 0 where nothing trains.
    """

    name: str
    seconds: float
    step_seconds: float


@dataclass(frozen=True)
class Projection:
    """What all units are going to take.

    Args:
        units: in the order of execution.
        probe_seconds: what finding it out took.
    """

    units: tuple[UnitTime, ...]
    probe_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(unit.seconds for unit in self.units)

    def __str__(self) -> str:
        slowest = max(self.units, key=lambda unit: unit.seconds)
        return (
            f"Projected: {_clock_time(self.seconds)} for {len(self.units)} units at the machine's "
            f"present load, {_clock_time(slowest.seconds)} of it for {slowest.name} (probed in "
            f"{_clock_time(self.probe_seconds)})."
        )


def project(
    model: Any,
    stages: Sequence[Stage],
    plans: Sequence[UnitPlan],
    steps: Sequence[MethodStep],
    states: Sequence[State],
) -> Projection:
    """Run every kind of unit for one image and a few steps, on a copy, and count it up.

    Units with the same kinds of sites and the same shapes are probed once. What a step costs per
    image and what it costs in any case are told apart by a second run with two images. The image
    with the most boxes is the probe, so the projection is rather high where others have fewer.

    Args:
        model: prepared, float; it ends as it was.
        stages: of the model.
        plans: all units.
        steps: of the recipe.
        states: before the first stage, one per image.
    """
    started = time.perf_counter()
    boxes = [state["boxes"].shape[1] for state in states]
    state = states[boxes.index(max(boxes))]
    known: dict[Any, tuple[float, float]] = {}
    units = []
    for plan in plans:
        key = _key(model, plan, state)
        if key not in known:
            following = tuple(stages[stages.index(plan.stages[-1]) + 1 :])
            known[key] = _Probe(model, plan, steps, state, following).project(len(states))
        units.append(UnitTime(plan.name, *known[key]))
        with torch.no_grad():
            state = plan.run(model, state)
    return Projection(tuple(units), time.perf_counter() - started)


@dataclass(frozen=True)
class _Probe:
    """One unit with the state of one image before it."""

    model: Any
    plan: UnitPlan
    steps: Sequence[MethodStep]
    state: State
    following: tuple[Stage, ...]

    def project(self, images: int) -> tuple[float, float]:
        """Return the seconds for all images and steps, and those of one step of training."""
        with _on_a_copy(self.model, self.plan), torch.no_grad():
            started = self._now()
            histograms = any(step.needs_histograms for step in self.steps)
            targets, statistics = run_observed(
                self.model, self.plan, [self.state], histograms, Silent()
            )
            total, training = images * (self._now() - started), 0.0

            trained: list[tuple[Reconstruct, float]] = []
            unit = partial(self._unit, targets[0], statistics)
            for step in self.steps if self.plan.sites else ():
                if isinstance(step, Reconstruct):
                    few = replace(step, steps=PROBE_STEPS, encoder_share=1.0)
                    trained.append((step, self._seconds(few, unit(1))))
                    continue
                one = self._seconds(step, unit(1))
                total += one
                if not isinstance(step, RoundToNearest):  # which looks at weights and statistics
                    more = self._seconds(step, unit(2)) - one
                    total += (images - 1) * min(one, max(0.0, more))
            started = self._now()
            self.plan.run(self.model, self.state)
            passing = self._now() - started  # quantized
        for step, spent in trained:  # the loss before and after takes a pass each
            each = max(0.0, spent - 2 * passing) / PROBE_STEPS
            total += step.steps_of(self.plan) * each + images * 2 * passing
            training = max(training, each)
        if any(step.needs_quantized_path for step in self.steps):
            total += images * passing
        return total, training

    def _unit(self, target: State, statistics: dict[Any, Any], images: int) -> Unit:
        """Return the unit with one image several times."""
        states = [self.state] * images
        return Unit(
            self.model,
            self.plan,
            states,
            states,
            [target] * images,
            statistics,
            progress=_Mute(),
            following=self.following,
        )

    def _seconds(self, step: MethodStep, unit: Unit) -> float:
        started = self._now()
        step.run_(unit)
        return self._now() - started

    def _now(self) -> float:
        """Read the clock when the device has done its work."""
        device = next(self.model.parameters()).device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()


class _Mute(Silent):
    """Hears nothing: a unit that a probe trains for three steps need not get better."""

    def warn(self, message: str) -> None: ...


@contextmanager
def _on_a_copy(model: Any, plan: UnitPlan) -> Iterator[None]:
    """Put copies in the place of the unit's blocks for a while."""
    places = dict.fromkeys(stage.block or stage.path for stage in plan.stages) if plan.sites else {}
    originals = {place: model.get_submodule(place) for place in places}
    try:
        for place, module in originals.items():
            model.set_submodule(place, copy.deepcopy(module))
        yield
    finally:
        for place, module in originals.items():
            model.set_submodule(place, module)


def _key(model: Any, plan: UnitPlan, state: State) -> Any:
    """Return what units must share to cost the same."""
    parameters = [
        tuple(parameter.shape)
        for site, _ in plan.sites
        for parameter in model.get_submodule(site.path).parameters()
    ]
    return (
        tuple((site.kind, site.type, bits) for site, bits in plan.sites) or plan.name,
        tuple(parameters),
        tuple((name, tuple(tensor.shape)) for name, tensor in sorted(state.items())),
    )


def _clock_time(seconds: float) -> str:
    """Return 40 s, 12 min or 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
