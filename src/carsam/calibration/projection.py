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
from carsam.families.base import Sample, Stage, State, split_after_encoder
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
    boxes is the probe, so the projection is rather high where others have fewer. Units that
    calibrate on clips alone are tried on one, those that calibrate on both on an image.

    Args:
        course: its model is prepared and float, and ends as it was.
        states: before the first stage, one per image.
        views: how many more there are, of other views of the images.
        units_done: by unit, whether it is finished already and costs nothing.
        steps_done: by closing step, the steps of training that it has done already.
        clips: before the first stage, frames that follow others.
    """
    started = time.perf_counter()
    state = max(states, key=prompts_in)
    # The steps after the last unit are tried on what the tries of the units leave of the decoder.
    model = copy_after_encoder(course.model, course.stages)
    with torch.no_grad(), on_kernels():
        embedded, seconds = _embedded(course, state)
        teaching = views if course.needs_teacher else 0
        all_seconds = (len(states) + teaching) * seconds
        all_seconds += sum(_embedded(course, clip)[1] for clip in clips[:1]) * len(clips)
        embeddings = [PartTime(EMBEDDINGS, all_seconds, 0.0)]
        after, samples = course.after_encoder(), len(states) + len(clips)
        opening = _whole_times(after, after.opening, model, embedded, samples)
        units = _unit_times(course, model, state, len(states), clips)
        closing = _whole_times(course, course.closing, model, state, samples + views, embedded)
    left = [unit for index, unit in enumerate(units) if not any(units_done[index : index + 1])]
    for index, done in enumerate(steps_done):
        saved = done * closing[index].step_seconds
        closing[index] = replace(closing[index], seconds=closing[index].seconds - saved)
    whole_steps = (*(embeddings if course.needs_embeddings else ()), *opening, *closing)
    return Projection(tuple(left), whole_steps, time.perf_counter() - started)


def _embedded(course: Course, state: State) -> tuple[State, float]:
    """Return the state after the float encoder, and what it takes; (state, 0) if none is read."""
    if not course.needs_embeddings:
        return state, 0.0
    started = _now(course.model)
    encoder, _ = split_after_encoder(course.stages)
    return run_stages(course.model, encoder, state), _now(course.model) - started


def _unit_times(
    course: Course, model: Any, state: State, images: int, clips: Sequence[State]
) -> list[PartTime]:
    """Try every unit on a copy of the model; it keeps the decoder's units as they then are."""
    known: dict[Any, tuple[float, float]] = {}
    encoder, _ = split_after_encoder(course.stages)
    clip = clips[0] if clips else None
    times = []
    for plan in course.plans:
        places = calibrating(plan, images, images + len(clips))
        probe = state if clip is None or Sample.STILL in plan.samples else clip
        key, in_encoder = _key(course.model, plan, probe), plan.stages[-1] in encoder
        if key not in known or not in_encoder:
            with _on_a_copy(model, plan) if in_encoder else nullcontext():
                known[key] = _unit_time(course, plan, model, probe, len(places))
        seconds, step_seconds = known[key]
        state = plan.run(course.model, state)
        if clip is not None:
            started = _now(course.model)
            clip = plan.run(course.model, clip)
            if Sample.CLIP not in plan.samples:  # they only run through it
                passes = len(clips) * (1 + course.needs_quantized_path)
                seconds += passes * (_now(course.model) - started)
        times.append(PartTime(plan.name, seconds, step_seconds))
    return times


def _unit_time(
    course: Course, plan: UnitPlan, model: Any, state: State, images: int
) -> tuple[float, float]:
    """Return the seconds of a unit for all images and steps, and those of a step of training."""
    started = _now(model)
    targets, statistics = run_observed(model, plan, [state], course.reads_histogram, Silent())
    total, training = images * (_now(model) - started), 0.0
    following = tuple(course.stages[course.stages.index(plan.stages[-1]) + 1 :])
    trial = _UnitTrial(model, plan, following, images, state, targets[0], statistics)
    for number, step in enumerate(course.steps if plan.sites else (), 1):
        cost = step.cost(replace(trial, later=course.steps[number:]))
        total, training = total + cost.seconds, max(training, cost.step_seconds)
    if course.needs_quantized_path:
        started = _now(model)
        plan.run(model, state)
        total += images * (_now(model) - started)
    return total, training


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
    course: Course,
    steps: NamedSteps,
    model: Any,
    state: State,
    images: int,
    embedded: State | None = None,
) -> list[PartTime]:
    """Try steps on a copy of the whole model."""
    times = []
    for name, step in steps:
        cost = step.cost(_WholeTrial(course, model, images, state, embedded))
        times.append(PartTime(name, cost.seconds, cost.step_seconds))
    return times


@dataclass(frozen=True)
class _WholeTrial:
    """A copy of the model, with the state of one image before it and after the float encoder."""

    course: Course
    model: Any
    images: int
    state: State
    embedded: State | None

    @property
    def stages(self) -> tuple[Stage, ...]:
        return stages_to_masks(self.course.stages) or self.course.stages

    def seconds(self, step: WholeModelStep, images: int) -> float:
        """Run a step with the image so many times."""
        model = copy.deepcopy(self.model) if step.changes_encoder else self.model
        states, teacher = [self.state] * images, None
        if step.needs_teacher and self.course.needs_teacher and self.embedded is not None:
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
