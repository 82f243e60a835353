"""QDrop (Wei et al., ICLR 2022, arXiv 2203.05740): one joint pass over rounding and scales.

During reconstruction each activation stays in float with probability 1/2, and
each element of a block's input comes from the float model with probability 1/2. Ranges have the
least squared error, of weights per channel and of activations per tensor.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_FIRST

RECIPE = Recipe("qdrop", (GRIDS_FIRST, Step("reconstruct")), ("encoder-block",))
