"""CAR-SAM and what measurably helps it, at no cost at run time.

Before CAR-SAM's compensation (MAC) and joint unit (JCAR): means of the decoder's inputs moved into
biases, attention balanced by its exact invariances, softmax codes relative to the row's maximum.
Rounding is of second order. In place of a reconstruction unit by unit the decoder is polished as
a whole, after the last unit: scales, codes, norms and biases, against the float masks.
docs/methods.md has equations, docs/accuracy.md what is known of each part.
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
        Step("feed-back-errors"),
    ),
    ("encoder-block", "cross+cross"),
    opening=(Step("centre-inputs"),),
    closing=(Step("polish"),),
)
