"""`carsam recipes`: the methods, their steps and parameters."""

from dataclasses import fields

from carsam.extras import require


def recipes() -> None:
    """List every recipe with its units, its steps and their parameters (needs `quantize`).

    A parameter is changed with `--set step.parameter=value`.
    """
    require("quantize", "torch", "transformers")
    from carsam.methods.registry import RECIPES, make_steps

    for recipe in RECIPES.values():
        units = ", ".join(recipe.units) or "one attention or MLP each"
        print(f"{recipe.name}: units {units}")
        for step, made in zip(recipe.steps, make_steps(recipe), strict=True):
            values = (f"{entry.name}={getattr(made, entry.name)}" for entry in fields(made))  # type: ignore[arg-type]
            print(f"  {step.name}: {' '.join(values)}")
