"""A model and everything that a recipe is going to do to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from carsam.families.base import Family, Site, Stage, State, split_after_encoder
from carsam.methods.base import UnitStep, WholeModel, WholeModelStep
from carsam.methods.recipe import Recipe
from carsam.methods.registry import make_steps, make_whole_model_steps
from carsam.methods.steps.training.mask_loss import stages_to_masks
from carsam.methods.steps.training.teacher import Teacher
from carsam.methods.units import UnitPlan, plan_units

NamedSteps = tuple[tuple[str, WholeModelStep], ...]


@dataclass(frozen=True)
class Course:
    """What happens to a model, in order.

    Args:
        model: the prepared model.
        stages: of the model.
        opening: steps on the model after its encoder, before the first unit, with their names.
        plans: all units.
        steps: on every unit.
        closing: steps on the whole model after the last unit, with their names.
    """

    model: Any
    stages: tuple[Stage, ...]
    opening: NamedSteps
    plans: tuple[UnitPlan, ...]
    steps: tuple[UnitStep, ...]
    closing: NamedSteps

    def reads_histogram(self, site: Site, operand: str) -> bool:
        """Tell whether a unit's step reads the histogram of an operand."""
        return any(step.reads_histogram(site, operand) for step in self.steps)

    @property
    def needs_quantized_path(self) -> bool:
        """Whether a unit's step reads activations along the quantized path."""
        return any(step.needs_quantized_path for step in self.steps)

    @property
    def needs_teacher(self) -> bool:
        """Whether a closing step reads the float model's masks, and stages lead to them."""
        wanted = any(step.needs_teacher for _, step in self.closing)
        return wanted and bool(stages_to_masks(self.stages))

    @property
    def needs_embeddings(self) -> bool:
        """Whether what the float encoder makes of the images is read before any unit's turn."""
        return self.needs_teacher or bool(self.opening)

    def after_encoder(self) -> "Course":
        """Return the course of a model whose encoder has been run."""
        return replace(self, stages=split_after_encoder(self.stages)[1])

    def whole(
        self, model: Any, states: Sequence[State], teacher: Teacher | None = None
    ) -> WholeModel:
        """Return a model up to its masks, with the sites of the units on the way.

        Args:
            model: the course's, or a copy.
            states: before the first stage, one per image.
        """
        to_masks = stages_to_masks(self.stages) or self.stages
        reached = (plan for plan in self.plans if plan.stages[-1] in to_masks)
        sites = tuple(pair for plan in reached for pair in plan.sites)
        return WholeModel(model, to_masks, sites, states, teacher)


def plan_course(family: Family, model: Any, recipe: Recipe) -> Course:
    """Return what a recipe does to a prepared model.

    Raises:
        UserError: a step, a parameter or a merge of the recipe is not known.
    """
    stages = family.stages(model)
    opening, closing = make_whole_model_steps(recipe)
    return Course(
        model,
        stages,
        tuple(zip((step.name for step in recipe.opening), opening, strict=True)),
        plan_units(stages, family.sites(model), recipe),
        make_steps(recipe),
        tuple(zip((step.name for step in recipe.closing), closing, strict=True)),
    )
