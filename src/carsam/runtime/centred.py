"""Layers without what their inputs have in common in all images; see `simulation.centre`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from carsam.runtime import kernels
from carsam.runtime.grids import CodeGrid, Codes, Operand, Reading, Sum, Tensor, values_of
from carsam.runtime.layers import Linear, Norm, quantized
from carsam.runtime.reference import Target


@dataclass(frozen=True)
class _Around:
    """What has a layer's channels.

    Args:
        layer: W, with the grid of x - c.
    """

    layer: Linear

    @property
    def inputs(self) -> int:
        """K, the number of input channels."""
        return self.layer.inputs

    @property
    def outputs(self) -> int:
        """N, the number of output channels."""
        return self.layer.outputs


@dataclass(frozen=True)
class Centred(_Around):
    """W (x - c) + bias + W c, for groups of tokens.

    Its input is no codes: c has to be subtracted before it is rounded.

    Args:
        table: W c, (T, N) float32, repeated over the groups.
        means: c, (T, K) or (1, K) float32; None if inputs come without it (`Reading.UNPLACED`).
        weight: W, (N, K) float32, where c are the places of an image, which make the table anew.
    """

    table: np.ndarray
    means: np.ndarray | None = None
    weight: np.ndarray | None = None
    input: None = None

    def __call__(
        self,
        tensor: Tensor | Sum,
        activation: str | None = None,
        residual: np.ndarray | None = None,
        into: np.ndarray | None = None,
    ) -> np.ndarray:
        """Apply to values (M, K): (M, N) float32; see `Linear`."""
        result = self.layer(self._inputs(tensor), residual=self.table, into=into)
        if activation is None and residual is None:
            return result
        return kernels.activate(result, None, activation, residual, into)

    def to_grid(
        self, tensor: Tensor | Sum, output: CodeGrid | None, activation: str | None = None
    ) -> Tensor:
        """Apply to values (M, K); the result is codes if `output` is given."""
        if activation is None:
            return self.layer.to_grid(self._inputs(tensor), output, residual=self.table)
        result = self(tensor, activation)
        return result if output is None else Codes(kernels.quantize(result, output), output)

    def normed(
        self, tensor: Tensor | Sum, residual: np.ndarray, norm: Norm, targets: Sequence[Target]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Apply to values (M, K), then normalise; see `Linear`."""
        return norm.on_grids(self(tensor, residual=residual), targets)

    def for_tokens(self, tokens: int) -> "Centred":
        """Return itself; its tokens are of one number."""
        return self

    def reads(self, placed: bool) -> Operand:
        """Return what the layer reads of tokens; `placed` if it is with their positions."""
        if self.means is None:
            return self.layer.input, Reading.UNPLACED
        return None, Reading.PLACED if placed else Reading.VALUES

    def rounded(self, tensor: Tensor | Sum) -> Tensor:
        """Return x - c (M, K) as the layer multiplies it: codes where it has a grid for them."""
        return quantized(self._inputs(tensor), self.layer.input)

    def _inputs(self, tensor: Tensor | Sum) -> Tensor | Sum:
        if self.means is not None:
            return Sum(values_of(tensor), -self.means)
        assert isinstance(tensor, Codes) or (isinstance(tensor, Sum) and tensor.undone)
        return tensor


@dataclass(frozen=True)
class TokenCentred(_Around):
    """A layer that reads the decoder's tokens.

    Args:
        means: (R, K) float32, of R - 1 own tokens and of those of prompts.
        table: (R, N) float32.
    """

    means: np.ndarray
    table: np.ndarray
    _known: dict[int, Centred] = field(default_factory=dict, compare=False)

    def for_tokens(self, tokens: int) -> Centred:
        """Return what the layer is for groups of so many tokens."""
        if tokens not in self._known:
            places = np.minimum(np.arange(tokens), len(self.means) - 1)
            self._known[tokens] = Centred(self.layer, self.table[places], self.means[places])
        return self._known[tokens]

    def reads(self, placed: bool) -> Operand:
        """Return what the layer reads of tokens; `placed` if it is with their positions."""
        return None, Reading.PLACED if placed else Reading.VALUES


def map_table(taps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return what a convolution makes of a map of ones, padded with zeros: (height * width, N).

    Args:
        taps: (S * S, N) float32, of each tap for a one; S is odd.
    """
    side = math.isqrt(len(taps))
    around = side // 2
    rows, columns = np.arange(height), np.arange(width)
    table = np.zeros((height, width, taps.shape[1]), np.float32)
    for tap, made in enumerate(taps):
        down, right = tap // side - around, tap % side - around
        read = (rows + down >= 0) & (rows + down < height)
        beside = (columns + right >= 0) & (columns + right < width)
        table += (read[:, None] & beside)[..., None] * made
    return table.reshape(height * width, -1)


AnyLinear = Linear | Centred | TokenCentred
"""A layer of the two-way transformer."""
