"""The loop over a model's units: stream the images through, apply the method, go on."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carsam.calibration.caches import CachedStates, state_cache
from carsam.calibration.needs import activations_by_unit, check_room, memory_line
from carsam.calibration.observe import run_observed
from carsam.calibration.projection import project
from carsam.calibration.unit_log import UnitLog
from carsam.families.base import Family, Stage, State
from carsam.methods.base import Unit, Whole
from carsam.methods.recipe import Recipe
from carsam.methods.registry import make_steps, make_whole_steps
from carsam.methods.steps.training.mask_loss import stages_to_masks
from carsam.methods.steps.training.teacher import Teacher
from carsam.methods.units import UnitPlan, plan_units
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
        views: the same of other views of the images, for the steps after the last unit.
        memory: gigabytes of activations to keep in memory; None for all.
        log: keeps finished units and brings them back.
        projects: say first how long it is going to take.

    Returns:
        What the steps noted, in the order of execution.

    Raises:
        UserError: memory and disk have no room for the activations; nothing has been done yet.
    """
    steps = make_steps(recipe)
    histograms = any(step.needs_histograms for step in steps)
    two_paths = any(step.needs_quantized_path for step in steps)
    stages = family.stages(model)
    plans = plan_units(stages, family.sites(model), recipe)
    needs = activations_by_unit(model, plans, states, two_paths)
    disk = Path(tempfile.gettempdir())
    check_room(needs, memory, disk, next(model.parameters()).device)
    if projects:
        progress.info(str(project(model, stages, plans, steps, states)))
        for left_out in recipe.closing:
            progress.info(f"Not in it: {left_out.name}, after the last unit.")
        progress.info(memory_line(needs, memory))
    notes: list[dict[str, Any]] = []
    progress.start("Quantizing", len(plans) * len(states))
    opening, closing = make_whole_steps(recipe)
    for opening_step in opening:
        opening_step.run_(_whole(model, stages, plans, states, None, seed, progress, notes))
    seen = (*states, *views)
    with state_cache(memory, disk) as cache:
        teacher = None
        if closing and stages_to_masks(stages):
            teacher = Teacher(model, stages, seen, cache.keep)
        inputs: Sequence[State] = states
        quantized: Sequence[State] = states
        for index, plan in enumerate(plans):
            # The unit is still float here: one pass gives targets and statistics.
            targets, statistics = run_observed(
                model, plan, inputs, histograms, progress, cache.keep
            )
            found = None if log is None else log.restore_(index, model, plan)
            if found is None:
                unit = Unit(
                    model,
                    plan,
                    inputs,
                    quantized,
                    targets,
                    statistics,
                    seed + index,
                    progress,
                    following=stages[stages.index(plan.stages[-1]) + 1 :],
                )
                for step in steps:
                    step.run_(unit)
                found = unit.notes
                if log is not None:
                    log.store(index, model, plan, found)
            notes += found
            following = targets
            if two_paths:
                following = cache.keep(plan.run(model, state) for state in quantized)
            for old in {id(inputs): inputs, id(quantized): quantized}.values():
                if isinstance(old, CachedStates):
                    old.close()
            inputs, quantized = targets, following
        progress.finish()
        for closing_step in closing:
            closing_step.run_(_whole(model, stages, plans, seen, teacher, seed, progress, notes))
    return notes


def _whole(
    model: Any,
    stages: tuple[Stage, ...],
    plans: Sequence[UnitPlan],
    states: Sequence[State],
    teacher: Teacher | None,
    seed: int,
    progress: Progress,
    notes: list[dict[str, Any]],
) -> Whole:
    """Return the model up to its masks, with the sites of the units on the way."""
    to_masks = stages_to_masks(stages) or stages
    reached = (plan for plan in plans if plan.stages[-1] in to_masks)
    sites = tuple(pair for plan in reached for pair in plan.sites)
    return Whole(model, to_masks, sites, states, teacher, seed, progress, notes)
