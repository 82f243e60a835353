"""ERQ (Zhong et al., ICML 2024, arXiv 2407.06794): two-step error reduction by ridge regression.

For linears and convolutions; the operands of attention products are rounded to nearest, as in the
paper.
"""

from carsam.methods.rounding import GRIDS_FIRST
from carsam.recipe import Recipe, Step

RECIPE = Recipe("erq", (GRIDS_FIRST, Step("reduce-errors")))
