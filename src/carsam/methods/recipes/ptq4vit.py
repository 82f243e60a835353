"""PTQ4ViT (Yuan et al., ECCV 2022, arXiv 2111.12293): twin uniform grids, no reconstruction.

Where we differ: the other operands have asymmetric grids of least squared error, not symmetric
ones of its Hessian-guided metric; the inputs of convolutions are quantized too.
"""

from carsam.methods.recipe import Recipe, Step

RECIPE = Recipe("ptq4vit", (Step("round-to-nearest", {"softmax": False}), Step("twin-uniform")))
