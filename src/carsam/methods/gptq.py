"""GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323): weights rounded with error feedback.

GPTQ leaves activations in float. Here they get the same grids as in `rtn`, so that recipes can be
compared at the same bits; `w4a32` is the original. Weight grids are per channel by squared error.
"""

from carsam.methods.rounding import GRIDS_FIRST
from carsam.recipe import Recipe, Step

RECIPE = Recipe("gptq", (GRIDS_FIRST, Step("feed-back-errors")))
