"""SAQ-SAM (AAAI 2026, arXiv 2503.06515): clipping by perception, prompts during reconstruction.

PTQ4SAM's BIG and AGQ, as in the released 4-bit configuration; then perceptual clipping (PCC), and
prompt-aware reconstruction (PAR): the outputs of an encoder unit go through the float neck, prompt
encoder and two-way blocks, those of a decoder unit through the float two-way blocks after it, and
the image tokens that come out are compared with those of the float model.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_BUT_SOFTMAX_FIRST

RECIPE = Recipe(
    "saqsam",
    (
        Step("bimodal-integration"),
        GRIDS_BUT_SOFTMAX_FIRST,
        Step("perceptual-clipping"),
        Step("adaptive-granularity"),
        Step("reconstruct", {"interaction": 1.0}),
    ),
    ("encoder-block", "two-way-block"),
)
