"""How long a quantization is going to take, said before it starts."""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from carsam.calibration.course import Course, NamedSteps
from carsam.calibration.needs import prompts_in
from carsam.calibration.observe import run_observed
from carsam.families.base import Stage, State, split_after_encoder
from carsam.methods.base import Unit, UnitStep, WholeModelStep
from carsam.methods.steps.training.mask_loss import run_stages, stages_to_masks
from carsam.methods.steps.training.teacher import Teacher, copy_after_encoder
from carsam.methods.units import UnitPlan, calibrating
from carsam.progress import Silent
from carsam.simulation.on_kernels import on_kernels

EMBEDDINGS = "the float encoder"


@dataclass(frozen=True)
class PartTime:
    """What one unit, or one step on the whole model, is going to take.

    Args:
        name: of the unit or the step.
        seconds: for all images and steps.
        step_seconds: of one step of training; 0 where nothing trains.
    """

    name: str
    seconds: float
    step_seconds: float


@dataclass(frozen=True)
class Projection:
    """What the whole run is going to take.

    Args:
        units: those not done yet, in the order of execution.
        whole_steps: before the first unit and after the last.
        probe_seconds: what finding it out took.
    """

    units: tuple[PartTime, ...]
    whole_steps: tuple[PartTime, ...]
    probe_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(part.seconds for part in (*self.units, *self.whole_steps))

    def __str__(self) -> str:
        parts = []
        if self.units:
            together = _clock_time(sum(unit.seconds for unit in self.units))
            slowest = max(self.units, key=lambda unit: unit.seconds)
            most = f"{_clock_time(slowest.seconds)} of it for {slowest.name}"
            parts.append(f"{together} for {len(self.units)} units ({most})")
        parts += [f"{_clock_time(step.seconds)} for {step.name}" for step in self.whole_steps]
        return (
            f"Projected: {_clock_time(self.seconds)} at the machine's present load: "
            f"{', '.join(parts)}. Probed in {_clock_time(self.probe_seconds)}."
        )


@dataclass(frozen=True, eq=False)
class _Probe:
    """One image, or one clip, which stands for so many.

    Args:
        state: as far as it has run.
        count: how many it stands for.
        embedded: after the float encoder, which took so many seconds; where that is not read the
            state before it, and 0.
    """

    state: State
    count: int
    embedded: State
    seconds: float

    @classmethod
    def of(cls, course: Course, state: State, count: int) -> "_Probe":
        """Return the probe of a state before the first stage."""
        if not course.needs_embeddings:
            return cls(state, count, state, 0.0)
        started = _now(course.model)
        encoder, _ = split_after_encoder(course.stages)
        embedded = run_stages(course.model, encoder, state)
        return cls(state, count, embedded, _now(course.model) - started)


def project(
    course: Course,
    states: Sequence[State],
    views: int = 0,
    units_done: Sequence[bool] = (),
    steps_done: Sequence[int] = (),
    clips: Sequence[State] = (),
) -> Projection:
    """Try every kind of unit, and every step on the whole model, on a copy, and multiply it up.

    The steps themselves tell what they cost from the times of their tries (`carsam.methods.cost`).
    Units with the same kinds of sites and the same shapes are tried once. The image with the most
    boxes is the probe, so the projection is rather high where others have fewer. What works on
    images and clips is tried on one of each.

    Args:
        course: its model is prepared and float, and ends as it was.
        states: before the first stage, one per image.
        views: how many more there are, of other views of the images.
        units_done: by unit, whether it is finished already and costs nothing.
        steps_done: by closing step, the steps of training that it has done already.
        clips: before the first stage, frames that follow others.
    """
    started = time.perf_counter()
    # The steps after the last unit are tried on what the tries of the units leave of the decoder.
    model = copy_after_encoder(course.model, course.stages)
    with torch.no_grad(), on_kernels():
        probes = [_Probe.of(course, max(states, key=prompts_in), len(states))]
        probes += [_Probe.of(course, clip, len(clips)) for clip in clips[:1]]
        seconds = sum(probe.count * probe.seconds for probe in probes)
        seconds += (views if course.needs_teacher else 0) * probes[0].seconds
        embeddings = [PartTime(EMBEDDINGS, seconds, 0.0)]
        after = course.after_encoder()
        encoded = [replace(probe, state=probe.embedded) for probe in probes]
        opening = _whole_times(after, after.opening, model, encoded)
        units = _unit_times(course, model, probes)
        probes[0] = replace(probes[0], count=len(states) + views)
        closing = _whole_times(course, course.closing, model, probes)
    left = [unit for index, unit in enumerate(units) if not any(units_done[index : index + 1])]
    for index, done in enumerate(steps_done):
        saved = done * closing[index].step_seconds
        closing[index] = replace(closing[index], seconds=closing[index].seconds - saved)
    whole_steps = (*(embeddings if course.needs_embeddings else ()), *opening, *closing)
    return Projection(tuple(left), whole_steps, time.perf_counter() - started)


def _unit_times(course: Course, model: Any, probes: Sequence[_Probe]) -> list[PartTime]:
    """Try every unit on a copy of the model; it keeps the decoder's units as they then are."""
    known: dict[Any, PartTime] = {}
    encoder, _ = split_after_encoder(course.stages)
    times = []
    for plan in course.plans:
        samples, in_encoder = _samples(plan, probes), plan.stages[-1] in encoder
        key = _key(course.model, plan, samples)
        if key not in known or not in_encoder:
            with _on_a_copy(model, plan) if in_encoder else nullcontext():
                known[key] = _unit_time(course, plan, model, samples)
        passing, following = 0.0, []
        for probe in probes:
            started = _now(course.model)
            following.append(replace(probe, state=plan.run(course.model, probe.state)))
            if probe not in samples:  # they only run through it, or pass it by
                passes = probe.count * (1 + course.needs_quantized_path)
                passing += passes * (_now(course.model) - started)
        found, probes = known[key], following
        times.append(PartTime(plan.name, found.seconds + passing, found.step_seconds))
    return times


def _samples(plan: UnitPlan, probes: Sequence[_Probe]) -> list[_Probe]:
    """Return the probes of what a unit is calibrated on; that of clips is the second one."""
    places = calibrating(plan, 1, len(probes))
    return list(probes[places.start : places.stop])


def _unit_time(course: Course, plan: UnitPlan, model: Any, probes: Sequence[_Probe]) -> PartTime:
    """Return the time of a unit for all samples and steps."""
    samples = sum(probe.count for probe in probes)
    seconds = step_seconds = 0.0
    for probe in probes:
        started = _now(model)
        targets, statistics = run_observed(
            model, plan, [probe.state], course.reads_histogram, Silent()
        )
        total, training = samples * (_now(model) - started), 0.0
        following = tuple(course.stages[course.stages.index(plan.stages[-1]) + 1 :])
        trial = _UnitTrial(model, plan, following, samples, probe.state, targets[0], statistics)
        for number, step in enumerate(course.steps if plan.sites else (), 1):
            cost = step.cost(replace(trial, later=course.steps[number:]))
            total, training = total + cost.seconds, max(training, cost.step_seconds)
        if course.needs_quantized_path:
            started = _now(model)
            plan.run(model, probe.state)
            total += samples * (_now(model) - started)
        share = probe.count / samples
        seconds, step_seconds = seconds + share * total, step_seconds + share * training
    return PartTime(plan.name, seconds, step_seconds)


@dataclass(frozen=True)
class _UnitTrial:
    """A unit of a copy, with the state of one image before it and after it."""

    model: Any
    plan: UnitPlan
    following: tuple[Stage, ...]
    images: int
    state: State
    target: State
    statistics: dict[Any, Any]
    later: tuple[UnitStep, ...] = ()

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.plan.stages

    def seconds(self, step: UnitStep, images: int) -> float:
        """Run a step with the image so many times."""
        states = [self.state] * images
        unit = Unit(
            self.model,
            self.plan,
            states,
            states,
            [self.target] * images,
            self.statistics,
            progress=_Mute(),
            following=self.following,
            later=self.later,
        )
        started = _now(self.model)
        step.run_(unit)
        return _now(self.model) - started


def _whole_times(
    course: Course, steps: NamedSteps, model: Any, probes: Sequence[_Probe]
) -> list[PartTime]:
    """Try steps on a copy of the whole model."""
    samples = sum(probe.count for probe in probes)
    times = []
    for name, step in steps:
        seconds = step_seconds = 0.0
        for probe in probes:
            trial = _WholeTrial(course, model, samples, probe.state, probe.embedded)
            cost, share = step.cost(trial), probe.count / samples
            seconds += share * cost.seconds
            step_seconds += share * cost.step_seconds
        times.append(PartTime(name, seconds, step_seconds))
    return times


@dataclass(frozen=True)
class _WholeTrial:
    """A copy of the model, with the state of one image before it and after the float encoder."""

    course: Course
    model: Any
    images: int
    state: State
    embedded: State

    @property
    def stages(self) -> tuple[Stage, ...]:
        return stages_to_masks(self.course.stages) or self.course.stages

    def seconds(self, step: WholeModelStep, images: int) -> float:
        """Run a step with the image so many times."""
        model = copy.deepcopy(self.model) if step.changes_encoder else self.model
        states, teacher = [self.state] * images, None
        if step.needs_teacher and self.course.needs_teacher:
            teacher = Teacher(self.course.model, self.course.stages, [self.embedded] * images)
        whole = replace(self.course.whole(model, states, teacher), progress=_Mute())
        started = _now(model)
        step.run_(whole)
        return _now(model) - started


class _Mute(Silent):
    """Hears nothing: what a try trains for three steps need not get better."""

    def warn(self, message: str) -> None: ...


def _now(model: Any) -> float:
    """Read the clock when the model's device has done its work."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


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


def _key(model: Any, plan: UnitPlan, probes: Sequence[_Probe]) -> Any:
    """Return what units must share to cost the same."""
    parameters = [
        tuple(parameter.shape)
        for site, _ in plan.sites
        for parameter in model.get_submodule(site.path).parameters()
    ]
    shapes = [
        tuple((name, tuple(tensor.shape)) for name, tensor in sorted(probe.state.items()))
        for probe in probes
    ]
    return (
        tuple((site.kind, site.type, bits) for site, bits in plan.sites) or plan.name,
        tuple(parameters),
        tuple(shapes),
    )


def _clock_time(seconds: float) -> str:
    """Return 40 s, 12 min or 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
