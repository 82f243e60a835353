"""ERQ (Zhong et al., ICML 2024, arXiv 2407.06794): two-step error reduction by ridge regression.

For linears and convolutions; the operands of attention products are rounded to nearest.

Where we differ: the released code builds on RepQ-ViT, with folded norms and a log-sqrt2 softmax;
this recipe has neither, so it is not all of ERQ. The step tells the rest.
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_FIRST

RECIPE = Recipe("erq", (GRIDS_FIRST, Step("reduce-errors")))
