"""What measurably helps most, at next to no cost at run time (codebooks look up one table).

What is the same in all images is taken out of inputs, attention is balanced by its exact
invariances, inputs of layers lie on codebooks, softmax codes are relative to the row's maximum,
rounding is of second order. In place of CAR-SAM's compensation (MAC) and of a reconstruction unit
by unit (JCAR), the decoder is then polished as a whole: scales, codes and float parts, against the
float masks.
docs/methods.md has equations, docs/accuracy.md what has been measured.
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_BUT_SOFTMAX_FIRST

RECIPE = Recipe(
    "carsam-plus",
    (
        Step("balance-attention"),
        Step("centre-layers"),
        GRIDS_BUT_SOFTMAX_FIRST,
        Step("codebooks"),
        Step("row-maximum-softmax"),
        Step("feed-back-errors"),
    ),
    opening=(Step("centre-inputs"),),
    closing=(Step("polish"),),
)
