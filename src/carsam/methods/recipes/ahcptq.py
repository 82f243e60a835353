"""AHCPTQ (Zhang et al., ICCV 2025, arXiv 2503.03088): PTQ4SAM with two more kinds of grids.

Hybrid log-uniform grids after activation functions, grids per group of channels in front of
projections and MLPs.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.recipes.ptq4sam import GRIDS

RECIPE = Recipe(
    "ahcptq",
    (
        Step("bimodal-integration"),
        GRIDS,
        Step("adaptive-granularity"),
        Step("hybrid-log-uniform"),
        Step("channel-grouping"),
        Step("reconstruct"),
    ),
)
