"""Rounding to nearest, without any optimisation: the floor that every method must beat."""

from carsam.methods.recipe import Recipe, Step

RECIPE = Recipe("rtn", (Step("round-to-nearest"),))
