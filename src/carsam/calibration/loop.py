"""The loop over a model's units: stream the images through, apply the method, continue."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carsam.calibration.caches import CachedStates, StateCache, state_cache
from carsam.calibration.course import Course, NamedSteps, plan_course
from carsam.calibration.needs import activations, memory_line, room
from carsam.calibration.observe import run_observed
from carsam.calibration.projection import project
from carsam.calibration.state_lists import Joined, Part
from carsam.calibration.unit_log import UnitLog
from carsam.families.base import Family, State, split_after_encoder
from carsam.methods.base import Unit
from carsam.methods.recipe import Recipe
from carsam.methods.steps.training.mask_loss import run_stages
from carsam.methods.steps.training.teacher import Teacher
from carsam.methods.units import calibrating
from carsam.progress import Progress
from carsam.simulation.on_kernels import on_kernels


def quantize_units_(
    family: Family,
    model: Any,
    recipe: Recipe,
    states: Sequence[State],
    seed: int,
    *,
    views: Sequence[State] = (),
    clips: Sequence[State] = (),
    memory: float | None,
    log: UnitLog | None,
    projects: bool,
    sharers: int = 1,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Quantize a prepared model unit by unit; only one unit's activations are kept.

    A unit's inputs are the outputs of the unit before it, streamed in float and, if a step needs
    them, along the quantized path; no image goes through the model from the start again.

    Args:
        states: before the first stage, one per image.
        views: the same of other views of the images, for closing steps that need them.
        clips: the same of frames that follow others, for the units that calibrate on them.
        memory: gigabytes of activations to keep in memory at most; None as of `needs.room`, as are
            `sharers`.
        log: keeps finished units, and steps under way, and brings them back.
        projects: say first how long it is going to take, and how much memory.

    Returns:
        What the steps noted, in the order of execution.

    Raises:
        UserError: memory and disk have no room for the activations; nothing has been done yet.
    """
    course = plan_course(family, model, recipe)
    disk = Path(tempfile.gettempdir())
    with on_kernels():
        needs = activations(course, states, views, clips)
        kept = room(needs, memory, disk, next(model.parameters()).device, sharers)
        units, steps = _done(course, log)
        if projects and (course.closing or not all(units)):
            progress.info(str(project(course, states, len(views), units, steps, clips)))
            progress.info(memory_line(needs, kept))
        with state_cache(kept, disk) as cache:
            run = _Run(course, cache, seed, log, progress, notes=[])
            run.all_(states, views, clips, units)
    return run.notes


def _done(course: Course, log: UnitLog | None) -> tuple[list[bool], list[int]]:
    """Return which units are finished, and how many steps each closing step has trained."""
    if log is None:
        return [False] * len(course.plans), [0] * len(course.closing)
    units = [log.has(index, plan) for index, plan in enumerate(course.plans)]
    return units, [log.trained(index, name) for index, (name, _) in enumerate(course.closing)]


@dataclass(frozen=True)
class _Run:
    """One quantization under way; arguments as of `quantize_units_`."""

    course: Course
    cache: StateCache
    seed: int
    log: UnitLog | None
    progress: Progress
    notes: list[dict[str, Any]]

    def all_(
        self,
        states: Sequence[State],
        views: Sequence[State],
        clips: Sequence[State],
        done: Sequence[bool],
    ) -> None:
        """Run all steps, on the units that are not done."""
        samples = Joined(states, clips)
        self.progress.start("Quantizing", len(self.course.plans) * len(samples))
        course, seen = self.course, Joined(samples, views)
        embeddings: Sequence[State] = ()
        if course.needs_embeddings:
            embedded: Sequence[State] = seen if course.needs_teacher else samples
            encoder, _ = split_after_encoder(course.stages)
            run = (run_stages(course.model, encoder, state) for state in embedded)
            embeddings = self.cache.keep(run)
        self._whole_(course.after_encoder(), course.opening, embeddings[: len(samples)])
        teacher = None
        if course.needs_teacher:
            teacher = Teacher(course.model, course.stages, embeddings)
        else:
            _close(embeddings)
        self._units_(samples, len(states), done)
        self.progress.finish()
        self._whole_(course, course.closing, seen, teacher, self.log)

    def _whole_(
        self,
        course: Course,
        steps: NamedSteps,
        states: Sequence[State],
        teacher: Teacher | None = None,
        log: UnitLog | None = None,
    ) -> None:
        for index, (name, step) in enumerate(steps):
            whole = replace(
                course.whole(course.model, states, teacher),
                seed=self.seed,
                progress=self.progress,
                notes=self.notes,
                keep=self.cache.keep,
                entry=None if log is None else log.entry(index, name),
            )
            step.run_(whole)

    def _units_(self, states: Sequence[State], stills: int, done: Sequence[bool]) -> None:
        """Quantize all units; of the states so many are stills, the rest clips."""
        last = max((index for index, finished in enumerate(done) if not finished), default=-1)
        inputs: Sequence[State] = states
        quantized: Sequence[State] = states
        for index, plan in enumerate(self.course.plans):
            if index > last:  # no unit after it reads what flows on
                self._restore_(index)
                self.progress.advance(len(states))
                continue
            places = calibrating(plan, stills, len(states))
            targets = self._unit_(index, inputs, quantized, places, done[index])
            if quantized is not inputs:
                _close(inputs)
            following = targets
            if self.course.needs_quantized_path and index < last:
                model, before = self.course.model, _taken(quantized)
                following = self.cache.keep(plan.run(model, state) for state in before)
            _close(quantized)
            inputs, quantized = targets, following
        _close(inputs)
        _close(quantized)

    def _unit_(
        self,
        index: int,
        inputs: Sequence[State],
        quantized: Sequence[State],
        places: range,
        done: bool,
    ) -> Sequence[State]:
        """Quantize a unit, or put it back if it is done; return its float outputs.

        Args:
            places: of the states that it is calibrated on.
        """
        model, plan, stages = self.course.model, self.course.plans[index], self.course.stages
        # The unit is still float here: one pass gives targets and statistics.
        targets, statistics = run_observed(
            model,
            replace(plan, sites=()) if done else plan,
            inputs,
            self.course.reads_histogram,
            self.progress,
            self.cache.keep,
            places,
        )
        if done:
            self._restore_(index)
            return targets
        unit = Unit(
            model,
            plan,
            Part(inputs, places),
            Part(quantized, places),
            Part(targets, places),
            statistics,
            self.seed + index,
            self.progress,
            following=stages[stages.index(plan.stages[-1]) + 1 :],
            keep=self.cache.keep,
        )
        for number, step in enumerate(self.course.steps, 1):
            step.run_(replace(unit, later=self.course.steps[number:]))
        if self.log is not None:
            self.log.store(index, model, plan, unit.notes)
        self.notes.extend(unit.notes)
        return targets

    def _restore_(self, index: int) -> None:
        assert self.log is not None
        self.notes.extend(self.log.restore_(index, self.course.model, self.course.plans[index]))


def _taken(states: Sequence[State]) -> Iterable[State]:
    """Return the states of a list; one that a cache holds frees them one by one."""
    return states.taken() if isinstance(states, CachedStates) else states


def _close(states: Sequence[State]) -> None:
    """Free a list of states if a cache holds it."""
    if isinstance(states, CachedStates):
        states.close()
