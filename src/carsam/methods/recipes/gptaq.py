"""GPTAQ (Li et al., ICML 2025, arXiv 2504.02692): GPTQ towards the float layer's output.

The asymmetric term counts a quarter, as in the released code that made the published numbers;
`asymmetry` 1 is the paper's equation.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_FIRST

RECIPE = Recipe(
    "gptaq", (GRIDS_FIRST, Step("feed-back-errors", {"asymmetry": 0.25, "damping": 0.1}))
)
