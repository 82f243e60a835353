"""RepQ-ViT (Li et al., ICCV 2023, arXiv 2212.08254): grids per channel where they cost nothing.

Scale reparameterization after norms, log-sqrt2 grids for the softmax, everything else rounded to
nearest, without reconstruction.

Where we differ: ranges have the least squared error, where the original takes the best of three
percentiles; the softmax's scale is searched and its grid is applied as it is, so that the change
of base to log2 is left to the run time.
"""

from carsam.methods.recipe import Recipe, Step

RECIPE = Recipe(
    "repq-vit",
    (
        Step("fold-norms"),
        Step("round-to-nearest", {"softmax": False}),
        Step("adaptive-granularity", {"granularities": "2", "power": 2.0}),
    ),
)
