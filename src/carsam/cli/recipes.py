"""`carsam recipes`: the methods, their steps and parameters."""

from dataclasses import fields
from typing import Any

from carsam.extras import require


def recipes() -> None:
    """List every recipe with its units, its steps and their parameters (needs `quantize`).

    Brackets hold the names that the papers give to steps and units, such as MAC, JCAR or AGQ.
    Steps run on one unit after the other, but those marked as before the first unit or after the
    last, which run once. A parameter is changed with `--set step.parameter=value`.
    """
    require("quantize", "torch", "transformers")
    from carsam.methods.registry import RECIPES, make_steps, make_whole_model_steps

    for recipe in RECIPES.values():
        units = ", ".join(map(_named, recipe.units)) or "one attention or MLP each"
        print(f"{recipe.name}: units {units}")
        opening, closing = make_whole_model_steps(recipe)
        for steps, made, when in (
            (recipe.opening, opening, " (once, before the first unit)"),
            (recipe.steps, make_steps(recipe), ""),
            (recipe.closing, closing, " (once, after the last unit)"),
        ):
            for step, step_made in zip(steps, made, strict=True):
                print(f"  {_named(step.name)}{when}: {_parameters(step_made)}".rstrip())


def _named(name: str) -> str:
    """Return the name of a step or unit, with what papers call it."""
    from carsam.methods.registry import PAPER_NAMES

    return f"{name} [{PAPER_NAMES[name]}]" if name in PAPER_NAMES else name


def _parameters(step: Any) -> str:
    return " ".join(f"{entry.name}={getattr(step, entry.name)}" for entry in fields(step))
