"""PTQ4SAM (Lv et al., CVPR 2024, arXiv 2405.03144).

Bimodal integration of the keys, adaptive granularity of the softmax, then QDrop's joint
reconstruction: the variant that the paper calls PTQ4SAM-L. Ranges are averaged extremes, those of
the decoder's keys have the least squared error, bimodal or not, as in the released code.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step

GRIDS = Step(
    "round-to-nearest",
    {"activations": "averaged-minmax", "decoder_keys": "mse", "rounds_weights": False},
)

RECIPE = Recipe(
    "ptq4sam",
    (Step("bimodal-integration"), GRIDS, Step("adaptive-granularity"), Step("reconstruct")),
)
