"""How long recipes train: all alike (`fast`), or each as its paper or released code does."""

from collections.abc import Mapping
from dataclasses import replace

from carsam.errors import UserError
from carsam.methods.recipe import Recipe, Step
from carsam.simulation.expected import UNFINISHED

BUDGETS = ("fast", "paper")
"""`fast` is the steps' defaults, for every recipe the same; no recipe sets its own."""

QDROP: Mapping[str, float] = {"steps": 20000, "rounding_rate": 1e-3, "scale_rate": 4e-4}
"""Of QDrop, PTQ4SAM, AHCPTQ and AHCQ-SAM. Their rate of the scales is 4e-5 and absolute; 4e-4 of
the scales' start is as much for scales around 0.1. CAR-SAM's 140000 steps are as many for each of
its seven decoder units; its rates are not published.
"""

PAPER: dict[str, Mapping[str, float]] = {
    "reconstruct": QDROP,
    UNFINISHED: QDROP,
    "polish": {"steps": 12000},
}
"""Parameters of the budget `paper`, by step, for recipes that `PAPER_BY_RECIPE` does not name."""

PAPER_BY_RECIPE: dict[str, tuple[Mapping[str, float], ...]] = {
    "brecq": (
        {"steps": 20000, "rounding_rate": 1e-3},
        {"steps": 5000, "scale_rate": 4e-3},
    ),
    "saqsam": ({"steps": 2000, "rounding_rate": 1e-3, "scale_rate": 2e-2},),
}
"""The same by recipe, for its steps that train, in their order."""


def with_budget(recipe: Recipe, budget: str) -> Recipe:
    """Return a recipe that trains as long as the budget says.

    Raises:
        UserError: the budget is not known.
    """
    if budget not in BUDGETS:
        raise UserError(f"Budget {budget} is not known; expected one of {', '.join(BUDGETS)}.")
    if budget == "fast":
        return recipe
    own = iter(PAPER_BY_RECIPE.get(recipe.name, ()))

    def budgeted(step: Step) -> Step:
        if step.name not in PAPER:
            return step
        return Step(step.name, {**step.parameters, **next(own, PAPER[step.name])})

    return replace(
        recipe,
        steps=tuple(map(budgeted, recipe.steps)),
        closing=tuple(map(budgeted, recipe.closing)),
    )
