"""The loop over a model's units: stream the images through, apply the method, continue."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carsam.calibration.caches import CachedStates, StateCache, state_cache
from carsam.calibration.course import Course, NamedSteps, plan_course
from carsam.calibration.needs import activations, check_room, memory_line
from carsam.calibration.observe import run_observed
from carsam.calibration.projection import project
from carsam.calibration.unit_log import UnitLog
from carsam.families.base import Family, State
from carsam.methods.base import Unit
from carsam.methods.recipe import Recipe
from carsam.methods.steps.training.teacher import Teacher
from carsam.progress import Progress


def quantize_units_(
    family: Family,
    model: Any,
    recipe: Recipe,
    states: Sequence[State],
    seed: int,
    *,
    views: Sequence[State] = (),
    memory: float | None,
    log: UnitLog | None,
    projects: bool,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Quantize a prepared model unit by unit; only one unit's activations are kept.

    A unit's inputs are the outputs of the unit before it, streamed in float and, if a step needs
    them, along the quantized path; no image goes through the model from the start again.

    Args:
        states: before the first stage, one per image.
        views: the same of other views of the images, for closing steps that need them.
        memory: gigabytes of activations to keep in memory; None for all.
        log: keeps finished units, and steps under way, and brings them back.
        projects: say first how long it is going to take, and how much memory.

    Returns:
        What the steps noted, in the order of execution.

    Raises:
        UserError: memory and disk have no room for the activations; nothing has been done yet.
    """
    course = plan_course(family, model, recipe)
    disk = Path(tempfile.gettempdir())
    needs = activations(course, states, views)
    check_room(needs, memory, disk, next(model.parameters()).device)
    units, steps = _done(course, log)
    if projects and (course.closing or not all(units)):
        progress.info(str(project(course, states, len(views), units, steps)))
        progress.info(memory_line(needs, memory))
    with state_cache(memory, disk) as cache:
        run = _Run(course, cache, seed, log, progress, notes=[])
        run.all_(states, views, units)
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

    def all_(self, states: Sequence[State], views: Sequence[State], done: Sequence[bool]) -> None:
        """Run all steps, on the units that are not done."""
        self.progress.start("Quantizing", len(self.course.plans) * len(states))
        self._whole_(self.course.opening, states)
        seen = (*states, *views)
        teacher = None
        if self.course.needs_teacher:
            teacher = Teacher(self.course.model, self.course.stages, seen, self.cache.keep)
        self._units_(states, done)
        self.progress.finish()
        self._whole_(self.course.closing, seen, teacher, self.log)

    def _whole_(
        self,
        steps: NamedSteps,
        states: Sequence[State],
        teacher: Teacher | None = None,
        log: UnitLog | None = None,
    ) -> None:
        for index, (name, step) in enumerate(steps):
            whole = replace(
                self.course.whole(self.course.model, states, teacher),
                seed=self.seed,
                progress=self.progress,
                notes=self.notes,
                keep=self.cache.keep,
                entry=None if log is None else log.entry(index, name),
            )
            step.run_(whole)

    def _units_(self, states: Sequence[State], done: Sequence[bool]) -> None:
        last = max((index for index, finished in enumerate(done) if not finished), default=-1)
        inputs: Sequence[State] = states
        quantized: Sequence[State] = states
        for index, plan in enumerate(self.course.plans):
            if index > last:  # no unit after it reads what flows on
                self._restore_(index)
                self.progress.advance(len(states))
                continue
            targets = self._unit_(index, inputs, quantized, done[index])
            following = targets
            if self.course.needs_quantized_path and index < last:
                model = self.course.model
                following = self.cache.keep(plan.run(model, state) for state in quantized)
            _close(inputs, quantized)
            inputs, quantized = targets, following
        _close(inputs, quantized)

    def _unit_(
        self, index: int, inputs: Sequence[State], quantized: Sequence[State], done: bool
    ) -> Sequence[State]:
        """Quantize a unit, or put it back if it is done; return its float outputs."""
        model, plan, stages = self.course.model, self.course.plans[index], self.course.stages
        # The unit is still float here: one pass gives targets and statistics.
        targets, statistics = run_observed(
            model,
            replace(plan, sites=()) if done else plan,
            inputs,
            self.course.needs_histograms,
            self.progress,
            self.cache.keep,
        )
        if done:
            self._restore_(index)
            return targets
        unit = Unit(
            model,
            plan,
            inputs,
            quantized,
            targets,
            statistics,
            self.seed + index,
            self.progress,
            following=stages[stages.index(plan.stages[-1]) + 1 :],
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


def _close(*lists: Sequence[State]) -> None:
    """Free the lists of states that a cache holds; one that is given twice is closed once."""
    for states in {id(states): states for states in lists}.values():
        if isinstance(states, CachedStates):
            states.close()
