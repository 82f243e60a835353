"""CAR-SAM (Wen et al., CVPR 2026, arXiv 2605.16901).

MAC (`compensate`) before, and JCAR's joint cross-attention unit during, QDrop's reconstruction.

Where we differ: see `methods/steps/mac/compensate.py` for MAC. The paper leaves its base and its
softmax grid open; ours is PTQ4SAM's logarithmic one, at the granularity that is best for most.
Whether it reconstructs the encoder is open too; here it does, as every recipe that trains.
"""

from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_BUT_SOFTMAX_FIRST

RECIPE = Recipe(
    "carsam",
    (
        Step("compensate"),
        GRIDS_BUT_SOFTMAX_FIRST,
        Step("adaptive-granularity", {"granularities": "2", "power": 2.0, "queries": 64}),
        Step("reconstruct"),
    ),
    ("encoder-block", "cross+cross"),
)
