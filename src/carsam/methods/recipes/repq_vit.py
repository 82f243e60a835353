"""RepQ-ViT (Li et al., ICCV 2023, arXiv 2212.08254): grids per channel where they cost nothing.

Scale reparameterization after norms, log-sqrt2 grids for the softmax, everything else rounded to
nearest, without reconstruction.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step

LOG_SQRT2 = Step("adaptive-granularity", {"granularities": "2", "power": 2.0})

RECIPE = Recipe(
    "repq-vit", (Step("fold-norms"), Step("round-to-nearest", {"softmax": False}), LOG_SQRT2)
)
