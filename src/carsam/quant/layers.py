"""A linear or convolution with a grid for its weight and a quantizer in front of its input."""

from typing import cast

import torch
from torch import Tensor, nn

from carsam.quant.grids import UniformGrid

Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


class QuantizedLayer(nn.Module):
    """One linear, convolution or transposed convolution as a quantized site.

    `input_quantizer` is an identity (float), an observer, or a grid. Once the weight is
    quantized, `layer.weight` holds values of `weight_grid` only.
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
    def quantize_weight_(self, grid: UniformGrid) -> None:
        """Round the weight to `grid`, one grid per row of `weight_rows`."""
        rows = grid(weight_to_rows(self.layer, self.layer.weight))
        self.layer.weight.copy_(rows_to_weight(self.layer, rows))
        self.weight_grid = grid


def weight_to_rows(layer: Layer, weight: Tensor) -> Tensor:
    """Return `weight` as (output channels, weights per channel)."""
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(0, 1)  # (in, out, h, w) -> (out, in, h, w)
    return weight.flatten(1)


def rows_to_weight(layer: Layer, rows: Tensor) -> Tensor:
    """Undo `weight_to_rows`."""
    shape = layer.weight.shape
    if isinstance(layer, nn.ConvTranspose2d):
        return rows.view(shape[1], shape[0], *shape[2:]).transpose(0, 1)
    return rows.view(shape)
