"""BRECQ (Li et al., ICLR 2021, arXiv 2102.05426): blocks reconstructed in two passes.

Section 3.2 and Algorithm 1: the rounding of the weights is learned with activations in float
(AdaRound, block by block), then the step sizes of the activations with the weights hard. The
weights' inputs come from the quantized path, those of the second pass from the float model.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_FIRST

RECIPE = Recipe(
    "brecq",
    (
        GRIDS_FIRST,
        Step("reconstruct", {"trains_scales": False, "keep": 0.0, "keep_inputs": 1.0}),
        Step("reconstruct", {"trains_weights": False, "keep": 1.0, "keep_inputs": 0.0}),
    ),
    ("encoder-block",),
)
