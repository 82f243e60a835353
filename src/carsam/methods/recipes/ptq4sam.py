"""PTQ4SAM (Lv et al., CVPR 2024, arXiv 2405.03144).

Bimodal integration of the keys, adaptive granularity of the softmax, then QDrop's joint
reconstruction with ranges of averaged extremes: the variant that the paper calls PTQ4SAM-L.

Where we differ: units hold residual and norm; the released code left half of the inputs of
linears in float and most weights unrounded at evaluation, which nothing here can do; keys keep
the observer of the other activations, where the released code searches those of bimodal keys.
"""

from carsam.methods.recipe import Recipe, Step

GRIDS = Step("round-to-nearest", {"activations": "averaged-minmax", "rounds_weights": False})

RECIPE = Recipe(
    "ptq4sam",
    (Step("bimodal-integration"), GRIDS, Step("adaptive-granularity"), Step("reconstruct")),
)
