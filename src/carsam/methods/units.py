"""Units: consecutive stages of one block that are quantized together."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from carsam.errors import UserError
from carsam.families.base import ENCODER_ROLES, Role, Sample, Site, Stage, State, sites_of_stages
from carsam.methods.recipe import Bits, Recipe
from carsam.methods.steps.jcar import joint_unit

MERGES: dict[str, tuple[Role, ...]] = {
    "encoder-block": ENCODER_ROLES,
    "self+cross": (Role.SELF_ATTENTION, Role.TOKEN_TO_IMAGE),
    joint_unit.NAME: joint_unit.JOINT_CROSS_ATTENTION,
    "two-way-block": (Role.SELF_ATTENTION, *joint_unit.JOINT_CROSS_ATTENTION),
}
"""Which consecutive roles of a block become one unit; without a merge every stage is its own.

`cross+cross` is the joint unit of CAR-SAM (JCAR), `two-way-block` that of AHCQ-SAM.
"""


@dataclass(frozen=True)
class UnitPlan:
    """A unit before anything has run.

    Args:
        stages: in the order of execution.
        sites: what is quantized in them, with its bits.
    """

    stages: tuple[Stage, ...]
    sites: tuple[tuple[Site, Bits], ...]

    @property
    def name(self) -> str:
        """The module paths of the stages."""
        return " + ".join(stage.path for stage in self.stages)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the state's entries that the unit computes, each once."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.outputs))

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What the unit is calibrated on."""
        return self.stages[0].samples

    def run(self, model: Any, state: State) -> State:
        """Run all stages."""
        for stage in self.stages:
            state = stage.run(model, state)
        return state


def calibrating(plan: UnitPlan, stills: int, samples: int) -> range:
    """Return the places of the samples that a unit is calibrated on; clips come after stills."""
    begin = 0 if Sample.STILL in plan.samples else stills
    return range(begin, samples if Sample.CLIP in plan.samples else stills)


def plan_units(
    stages: tuple[Stage, ...], sites: tuple[Site, ...], recipe: Recipe
) -> tuple[UnitPlan, ...]:
    """Merge the stages as the recipe wants; stages after the last quantized site are left out.

    Raises:
        UserError: a merge of the recipe is not known.
    """
    unknown = set(recipe.units) - set(MERGES)
    if unknown:
        raise UserError(
            f"Units {', '.join(sorted(unknown))} are not known; expected {', '.join(MERGES)}."
        )
    merges = [MERGES[name] for name in recipe.units]
    plans: list[UnitPlan] = []
    for stage, members in sites_of_stages(stages, sites):
        pairs = ((site, recipe.bits_of(site.path, site.kind)) for site in members)
        plan = UnitPlan((stage,), tuple(pair for pair in pairs if pair[1] != Bits(None, None)))
        if plans and _belong_together(plans[-1].stages[-1], stage, merges):
            before = plans.pop()
            plan = UnitPlan(before.stages + plan.stages, before.sites + plan.sites)
        plans.append(plan)
    while plans and not plans[-1].sites:
        plans.pop()
    return tuple(plans)


def _belong_together(before: Stage, stage: Stage, merges: list[tuple[Role, ...]]) -> bool:
    return before.block == stage.block and any(
        (before.role, stage.role) in pairwise(roles) for roles in merges
    )
