"""A linear or convolution with a grid for its weight and a quantizer in front of its input."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carsam.grids.base import UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.grouped import GroupedUniformGrid
from carsam.grids.tables import TableGrid
from carsam.simulation import on_kernels, products
from carsam.simulation.arithmetic import exact_type
from carsam.simulation.centre import Centre

Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d

IntegerGrid = UniformGrid | GroupedUniformGrid | CodebookGrid
INTEGER_GRIDS = (UniformGrid, GroupedUniformGrid, CodebookGrid)
"""Grids of inputs that are multiplied as integers."""


class QuantizedLayer(nn.Module):
    """One linear, convolution or transposed convolution as a quantized site.

    `input_quantizer` is an identity (float), an observer, or a grid. `weight_grid` is None for a
    float weight; once the weight is rounded, it holds values of that grid only. `centre`, if there
    is one, is taken out of the inputs before they are rounded, and its product added to the result.

    Args:
        layer: to be quantized.
        rounds_once: sum in float64 while the layer is float, so that its result, which will be
            rounded to codes, does not depend on the order of the sum.
    """

    def __init__(self, layer: Layer, rounds_once: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.input_quantizer: nn.Module = nn.Identity()
        self.weight_grid: UniformGrid | None = None
        self.centre: Centre | None = None
        self._rounds_once = rounds_once

    @property
    def weight(self) -> Tensor:
        """The layer's own weight, at which some modules of transformers look for its type."""
        return self.layer.weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer to the quantized inputs.

        Without gradients, codes are multiplied as integers, and scaled as the native engine does.
        """
        if self.centre is None:
            return self._multiplied(inputs)
        return self._multiplied(self.centre.removed_from(inputs)) + self.centre.product(inputs)

    def _multiplied(self, inputs: Tensor) -> Tensor:
        steps = self._weight_steps()
        if steps is not None:
            return self._product_of_integers(inputs, steps)
        values = on_kernels.rounding(self.input_quantizer)(inputs)
        if not torch.is_grad_enabled() and self._sums_in_double():
            product = multiply(self.layer, values.double(), self.layer.weight.double())
            return self._with_bias_(product.float())
        if _doubles(self.layer):
            return _doubled(values, self.layer.weight, self.layer.bias)
        if isinstance(self.layer, nn.Linear) and torch.is_grad_enabled():
            return products.linear(values, self.layer.weight, self.layer.bias)
        return cast(Tensor, self.layer(values))

    def _sums_in_double(self) -> bool:
        if isinstance(self.input_quantizer, TableGrid):  # as the native engine does
            return True
        return self._rounds_once and self.weight_grid is None

    def multiplies_integers(self) -> bool:
        """Tell whether the layer multiplies codes: weight and input have their grids."""
        return self._weight_steps() is not None

    @torch.no_grad()
    def round_weight_(self) -> None:
        """Round the weight to the nearest values of its grid."""
        assert self.weight_grid is not None
        rows = self.weight_grid(weight_to_rows(self.layer, self.layer.weight))
        self.layer.weight.copy_(rows_to_weight(self.layer, rows, self.layer.weight.shape))

    def _weight_steps(self) -> Tensor | None:
        """The weight as integers (output channels, weights per channel), if they are multiplied."""
        if torch.is_grad_enabled() or self.weight_grid is None:
            return None
        if type(self.input_quantizer) not in INTEGER_GRIDS:
            return None
        rows = weight_to_rows(self.layer, self.layer.weight)
        steps = self.weight_grid.steps(rows)
        return steps if torch.equal(steps * self.weight_grid.scale, rows) else None

    def _product_of_integers(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Each part's sum of integers is exact, whatever its order, and scaled once."""
        grid = cast(IntegerGrid, self.input_quantizer)
        assert self.weight_grid is not None
        fits = isinstance(self.layer, nn.Linear) and on_kernels.has_columns_for(rows)
        if fits and on_kernels.usable(inputs):
            return on_kernels.linear(inputs, rows, self.weight_grid, grid, self.layer.bias)
        total: Tensor | None = None
        for steps, columns, scale in grid.integer_parts(inputs):
            part = rows[:, columns]
            kind = exact_type(float(part.abs().sum(1).max()) * grid.largest_step)
            if not isinstance(self.layer, nn.Linear):
                part = rows_to_weight(self.layer, part, self.layer.weight.shape)
            product = multiply(self.layer, steps.to(kind), part.to(kind)).float()
            product.mul_(self._per_output(scale * self.weight_grid.scale.flatten()))
            total = product if total is None else product.add_(total)
        assert total is not None
        return self._with_bias_(total)

    def _with_bias_(self, product: Tensor) -> Tensor:
        bias = self.layer.bias
        return product if bias is None else product.add_(self._per_output(bias))

    def _per_output(self, numbers: Tensor) -> Tensor:
        """Shape one number per output channel to fit the layer's output."""
        return numbers if isinstance(self.layer, nn.Linear) else numbers[:, None, None]


def _doubles(layer: Layer) -> bool:
    """Tell whether a transposed convolution makes 2 x 2 outputs of each input alone."""
    return (
        isinstance(layer, nn.ConvTranspose2d)
        and layer.kernel_size == layer.stride == (2, 2)
        and layer.padding == layer.output_padding == (0, 0)
        and layer.dilation == (1, 1)
        and layer.groups == 1
    )


def _doubled(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return such a convolution of (batch, in, h, w) as one product.

    Channels come last in memory, as the image's tokens have them and as norms and products read
    them: twice as fast, forward and backward, as torch's own transposed convolution.
    """
    batch, _, height, width = image.shape
    outputs = weight.shape[1]
    rows = weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * out, in)
    repeated = None if bias is None else bias.repeat(4)
    product = products.linear(image.permute(0, 2, 3, 1), rows, repeated)
    product = product.view(batch, height, width, 2, 2, outputs).transpose(2, 3)
    return product.reshape(batch, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)


def multiply(layer: Layer, inputs: Tensor, weight: Tensor) -> Tensor:
    """Apply a layer with another weight, of the inputs' type, and without its bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(inputs, weight)
    assert not isinstance(layer.padding, str)
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(
            inputs, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
        )
    return F.conv_transpose2d(
        inputs,
        weight,
        None,
        layer.stride,
        layer.padding,
        layer.output_padding,
        layer.groups,
        layer.dilation,
    )


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
