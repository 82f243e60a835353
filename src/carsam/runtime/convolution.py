"""Convolutions of images that lie channels last: of overlapping squares, and channel by channel."""

from dataclasses import dataclass

import numpy as np

from carsam.runtime import kernels
from carsam.runtime.grids import CodeGrid, Codes, Tensor, values_of
from carsam.runtime.layers import Linear
from carsam.runtime.matrices import PackedMatrix
from carsam.runtime.patches import shifted, surroundings
from carsam.runtime.strips import strips


@dataclass(frozen=True)
class Convolution:
    """A convolution of overlapping squares, as products of their rows.

    Args:
        layer: for squares ordered (height, width, channel).
        side, stride, margin: of the squares, in pixels; beyond the image there are zeros.
    """

    layer: Linear
    side: int
    stride: int
    margin: int

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Map an image (H, W, C) float32 to (h, w, outputs) float32."""
        height, width = self._outputs(image.shape[0]), self._outputs(image.shape[1])
        result = kernels.empty((height, width, self.layer.outputs))
        for first, last in strips(height, width):
            rows = result[first:last].reshape(-1, self.layer.outputs)
            self.lines(image, first, last, into=rows)
        return result

    def lines(
        self,
        image: np.ndarray,
        first: int,
        last: int,
        residual: np.ndarray | None = None,
        into: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the lines `first` to `last` of the result, (lines * w, outputs) float32.

        Args:
            residual: of the same shape, added.
            into: gets the result.
        """
        top = first * self.stride - self.margin
        bottom = (last - 1) * self.stride - self.margin + self.side
        seen = image[max(top, 0) : bottom]
        zero, grid = 0, self.layer.input
        if grid is not None:
            flat = np.ascontiguousarray(seen).reshape(-1, image.shape[2])
            seen, zero = kernels.quantize(flat, grid).reshape(seen.shape), grid.zero_point
        beyond = max(-top, 0), max(bottom - image.shape[0], 0)
        squares = surroundings(
            seen, self.side, self.stride, (beyond, (self.margin, self.margin)), zero
        )
        rows = squares.reshape(-1, self.layer.inputs)
        return self.layer(rows if grid is None else Codes(rows, grid), residual=residual, into=into)

    def _outputs(self, pixels: int) -> int:
        return (pixels + 2 * self.margin - self.side) // self.stride + 1


@dataclass(frozen=True)
class DepthwiseConvolution:
    """A convolution of every channel by itself: odd side, stride 1, as many zeros around.

    Args:
        weight: (C, side * side) packed codes, or float32.
        bias: (C,) float32, or None.
        input: grid of the image, or None.
    """

    weight: PackedMatrix | np.ndarray
    bias: np.ndarray | None
    input: CodeGrid | None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Map an image (H, W, C) float32 to another of its shape."""
        tensor: Tensor = image
        if self.input is not None:
            codes = kernels.quantize(image.reshape(-1, image.shape[2]), self.input)
            tensor = Codes(codes.reshape(image.shape), self.input)
        if isinstance(tensor, Codes) and isinstance(self.weight, PackedMatrix):
            return kernels.depthwise(tensor, self.weight, self.bias)
        weights = self.weight.values() if isinstance(self.weight, PackedMatrix) else self.weight
        side, result = round(weights.shape[1] ** 0.5), np.zeros(image.shape, np.float32)
        for part, weight in zip(shifted(values_of(tensor), side), weights.T, strict=True):
            result += part * weight
        return result if self.bias is None else result + self.bias
