"""GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323): weights rounded with error feedback.

GPTQ leaves activations in float. Here they get the same grids as in `rtn`, so that recipes can be
compared at the same bits; `w4a32` is the original. Weight grids are per channel by squared error.
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_FIRST

RECIPE = Recipe("gptq", (GRIDS_FIRST, Step("feed-back-errors")))
