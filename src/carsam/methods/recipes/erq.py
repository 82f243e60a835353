"""ERQ (Zhong et al., ICML 2024, arXiv 2407.06794): two-step error reduction by ridge regression.

For linears and convolutions, on top of RepQ-ViT's folded norms and log-sqrt2 softmax, as in the
released code; the other operands of attention products are rounded to nearest.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.recipes.repq_vit import LOG_SQRT2
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_BUT_SOFTMAX_FIRST

RECIPE = Recipe(
    "erq", (Step("fold-norms"), GRIDS_BUT_SOFTMAX_FIRST, LOG_SQRT2, Step("reduce-errors"))
)
