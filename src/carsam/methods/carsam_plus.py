"""CAR-SAM and what measurably helps it, at no cost at run time.

Before CAR-SAM's compensation (MAC) and joint unit (JCAR): means of the decoder's inputs moved into
biases, attention balanced by its exact invariances, softmax codes relative to the row's maximum.
Between them: second-order rounding as the start of reconstruction. After the last unit: a polish
of scales, codes, norms and biases against the float masks. docs/methods.md has equations,
docs/accuracy.md what is known of each part.
"""

from carsam.methods.rounding import GRIDS_FIRST
from carsam.recipe import Recipe, Step

RECIPE = Recipe(
    "carsam-plus",
    (
        Step("balance-attention"),
        Step("compensate", {"softmax": "row-maximum"}),
        GRIDS_FIRST,
        Step("row-maximum-softmax"),
        Step("feed-back-errors", {"rounds": False}),
        Step(
            "reconstruct",
            {"steps": 200, "encoder_share": 0.5, "effect_images": 8, "sharpness": 0.5},
        ),
    ),
    ("encoder-block", "cross+cross"),
    opening=(Step("centre-inputs"),),
    closing=(Step("polish"),),
)
