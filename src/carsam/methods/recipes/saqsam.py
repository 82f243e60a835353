"""SAQ-SAM (AAAI 2026, arXiv 2503.06515): clipping by perception, prompts during reconstruction.

Prompt-aware reconstruction (PAR): the outputs of an encoder unit go through the float neck, prompt
encoder and two-way blocks, those of a decoder unit through the float two-way blocks after it, and
the image tokens that come out are compared with those of the float model.

Where we differ: the released 4-bit configuration also has PTQ4SAM's BIG and AGQ, this recipe has
neither, so it is not all of SAQ-SAM; units of the encoder are blocks, not stages of several blocks
up to a global attention; their own outputs are compared too; losses are relative to the float
energy, so the paper's weights of 0.01 for tokens and 1 for the image do not apply; every weight is
rounded, which the released code does not do.
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_FIRST

RECIPE = Recipe(
    "saqsam",
    (
        GRIDS_FIRST,
        Step("perceptual-clipping"),
        Step("reconstruct", {"interaction": 1.0}),
    ),
    ("encoder-block", "two-way-block"),
)
