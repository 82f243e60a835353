"""AHCQ-SAM (arXiv 2503.03088v4, April 2026), the successor of AHCPTQ.

Keys are made unimodal (BIG, as in the released configuration), ill-conditioned weights are lifted
(ACNR), probabilities are uniform in a shifted logarithm (LNQ), inputs have hybrid and grouped grids
as in AHCPTQ. An encoder block, or the whole two-way block (self-attention, token-to-image
attention, MLP, image-to-token attention), is reconstructed at once, the two-way block on both of
its outputs: close to the joint unit of CAR-SAM, and earlier.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.recipes.ptq4sam import GRIDS

RECIPE = Recipe(
    "ahcqsam",
    (
        Step("bimodal-integration"),
        GRIDS,  # ACNR weighs the errors that they make,
        Step("reduce-condition"),
        GRIDS,  # and changes the ranges
        Step("logarithmic-softmax"),
        Step("hybrid-log-uniform"),
        Step("channel-grouping"),
        Step("reconstruct"),
    ),
    ("encoder-block", "two-way-block"),
)
