"""SAQ-SAM (AAAI 2026): perceptual clipping of the decoder's queries and keys, reconstruction.

What is missing: its prompt-aware reconstruction (PAR), which sends a stage's output through the
float decoder and compares the image tokens that interact with prompts. Units are reconstructed on
their own outputs, whole blocks at once, and unlike in the released code every weight is rounded.
"""

from carsam.methods.rounding import GRIDS_FIRST
from carsam.recipe import Recipe, Step

RECIPE = Recipe(
    "saqsam",
    (GRIDS_FIRST, Step("perceptual-clipping"), Step("reconstruct")),
    ("encoder-block", "two-way-block"),
)
