"""A linear or convolution with a grid for its weight and a quantizer in front of its input."""

from typing import cast

import torch
from torch import Tensor, nn

from carsam.quant.grids import UniformGrid

Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


class QuantizedLayer(nn.Module):
    """One linear, convolution or transposed convolution as a quantized site.

    `input_quantizer` is an identity (float), an observer, or a grid. `weight_grid` is None for a
    float weight; once the weight is rounded, it holds values of that grid only.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.input_quantizer: nn.Module = nn.Identity()
        self.weight_grid: UniformGrid | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer to the quantized inputs."""
        return cast(Tensor, self.layer(self.input_quantizer(inputs)))

    @torch.no_grad()
    def round_weight_(self) -> None:
        """Round the weight to the nearest values of its grid."""
        assert self.weight_grid is not None
        rows = self.weight_grid(weight_to_rows(self.layer, self.layer.weight))
        self.layer.weight.copy_(rows_to_weight(self.layer, rows, self.layer.weight.shape))


def weight_to_rows(layer: Layer, weight: Tensor) -> Tensor:
    """Return `weight` as (output channels, weights per channel)."""
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(0, 1)  # (in, out, h, w) -> (out, in, h, w)
    return weight.flatten(1)


def rows_to_weight(layer: Layer, rows: Tensor, shape: torch.Size) -> Tensor:
    """Undo `weight_to_rows` for a weight of the given shape."""
    if isinstance(layer, nn.ConvTranspose2d):
        return rows.view(shape[1], shape[0], *shape[2:]).transpose(0, 1)
    return rows.view(shape)
