"""PTQ4ViT (Yuan et al., ECCV 2022, arXiv 2111.12293): twin uniform grids, no reconstruction.

Where we differ: docs/methods.md, "Where we differ from the released code".
"""

from carsam.methods.recipe import Recipe, Step

RECIPE = Recipe("ptq4vit", (Step("round-to-nearest", {"softmax": False}), Step("twin-uniform")))
