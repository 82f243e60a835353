"""GPTAQ (Li et al., ICML 2025, arXiv 2504.02692): GPTQ towards the float layer's output.

Where we differ: the asymmetric term has its full weight as in the paper's equations, where the
released code takes a quarter; activations have static grids per tensor, there they are dynamic
per token.
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_FIRST

RECIPE = Recipe(
    "gptaq", (GRIDS_FIRST, Step("feed-back-errors", {"asymmetry": 1.0, "damping": 0.1}))
)
