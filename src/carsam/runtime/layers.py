"""Layers of the native engine: each part quantized or float, as its checkpoint says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from carsam.runtime import kernels
from carsam.runtime.geometry import RelativePositions, TokenMap
from carsam.runtime.grids import (
    CodeGrid,
    Codes,
    ColumnGrids,
    Operand,
    Reading,
    Sum,
    Tensor,
    values_of,
)
from carsam.runtime.matrices import PackedMatrix
from carsam.runtime.reference import Target
from carsam.runtime.softmax_grids import SoftmaxGrid


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over the last axis."""

    weight: np.ndarray
    bias: np.ndarray
    epsilon: float

    def __call__(self, values: np.ndarray, activation: str | None = None) -> np.ndarray:
        """Normalise float32 `values` (..., channels), then apply an activation function."""
        return self._apply(values, activation, None)

    def to_grid(self, values: np.ndarray, output: CodeGrid | None) -> Tensor:
        """Normalise float32 `values` (..., channels); as codes if `output` is given."""
        return on_grid(self._apply(values, None, output), output)

    def on_grids(
        self, values: np.ndarray, targets: Sequence[Target]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Normalise (rows, channels) float32 `values`; the result, and its codes on some grids."""
        return kernels.norm_on_grids(values, self.weight, self.bias, self.epsilon, targets)

    def _apply(
        self, values: np.ndarray, activation: str | None, output: CodeGrid | None
    ) -> np.ndarray:
        rows = values.reshape(-1, values.shape[-1])
        result = kernels.layer_norm(rows, self.weight, self.bias, self.epsilon, activation, output)
        return result.reshape(values.shape)


@dataclass(frozen=True)
class Linear:
    """activation(x W^T + bias) + residual, with x quantized first where it has a grid.

    Args:
        weight: (N, K) packed codes, float32, or float64: then the sum is rounded only at its end.
        bias: (N,) float32, or None.
        input: grid of x, or None.
    """

    weight: PackedMatrix | np.ndarray
    bias: np.ndarray | None
    input: CodeGrid | None

    def __call__(
        self,
        tensor: Tensor | Sum,
        activation: str | None = None,
        residual: np.ndarray | None = None,
        into: np.ndarray | None = None,
    ) -> np.ndarray:
        """Apply to (M, K) values, or codes on `input`: (M, N) float32.

        `residual` is (a divisor of M, N), repeated over the rows. `into`, which may be the
        residual, gets the result.
        """
        return self._apply(tensor, activation, residual, None, into)

    def to_grid(
        self,
        tensor: Tensor | Sum,
        output: CodeGrid | None,
        activation: str | None = None,
        residual: np.ndarray | None = None,
    ) -> Tensor:
        """Apply to (M, K) values or codes; the result is codes if `output` is given."""
        return on_grid(self._apply(tensor, activation, residual, output), output)

    def normed(
        self, tensor: Tensor | Sum, residual: np.ndarray, norm: Norm, targets: Sequence[Target]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Apply to (M, K) values or codes, then normalise: the result, and its codes on grids."""
        tensor = quantized(tensor, self.input)
        if not (isinstance(tensor, Codes) and isinstance(self.weight, PackedMatrix)):
            return norm.on_grids(self(tensor, residual=residual), targets)
        numbers = norm.weight, norm.bias, norm.epsilon
        return kernels.linear_norm_on_grids(
            tensor, self.weight, self.bias, residual, numbers, targets
        )

    def for_tokens(self, tokens: int) -> "Linear":
        """Return what the layer is for rows that are groups of so many tokens: itself."""
        return self

    def to_column_grids(
        self, tensor: Tensor, output: ColumnGrids | None, into: np.ndarray | None = None
    ) -> np.ndarray:
        """Apply to (M, K) values or codes: (M, N) codes, or values without `output`."""
        return self._apply(tensor, None, None, output, into)

    def reads(self, placed: bool) -> Operand:
        """Return what the layer reads of tokens; `placed` if it is with their positions."""
        return self.input, Reading.PLACED if placed else Reading.VALUES

    @property
    def outputs(self) -> int:
        """N, the number of output channels."""
        return self.weight.rows if isinstance(self.weight, PackedMatrix) else len(self.weight)

    @property
    def inputs(self) -> int:
        """K, the number of input channels."""
        weight = self.weight
        return weight.columns if isinstance(weight, PackedMatrix) else weight.shape[1]

    def rounded_once(self) -> "Linear":
        """The layer, summing in float64 if its weight is float.

        Its result does not depend on the order of the sum then, but for one number in a hundred
        million. That matters where the result is rounded to codes.
        """
        if isinstance(self.weight, PackedMatrix):
            return self
        return replace(self, weight=self.weight.astype(np.float64))

    def at_zero(self, output: ColumnGrids | None) -> np.ndarray:
        """The result (1, N) for a row of zeros, which every grid holds exactly: the bias."""
        bias = np.zeros(self.outputs, np.float32) if self.bias is None else self.bias
        return bias[None] if output is None else kernels.quantize(bias[None], output)

    def _apply(
        self,
        tensor: Tensor | Sum,
        activation: str | None,
        residual: np.ndarray | None,
        output: CodeGrid | ColumnGrids | None,
        into: np.ndarray | None = None,
    ) -> np.ndarray:
        tensor = quantized(tensor, self.input)
        if isinstance(tensor, Codes) and isinstance(self.weight, PackedMatrix):
            return kernels.linear(
                tensor, self.weight, self.bias, activation, residual, output, into
            )
        product = kernels.float_product(values_of(tensor), self.weight_values())
        return self._finish(product, activation, residual, output, into)

    def _finish(
        self,
        product: np.ndarray,
        activation: str | None,
        residual: np.ndarray | None,
        output: CodeGrid | ColumnGrids | None,
        into: np.ndarray | None,
    ) -> np.ndarray:
        """Turn a float32 product (M, N), which is overwritten, into the layer's result."""
        place = into if output is None and into is not None else product
        result = kernels.activate(product, self.bias, activation, residual, place)
        if output is None:
            return result
        codes = kernels.quantize(result, output)
        if into is None:
            return codes
        into[:] = codes
        return into

    def weight_values(self) -> np.ndarray:
        """(N, K) float32 or float64."""
        return self.weight.values() if isinstance(self.weight, PackedMatrix) else self.weight


@dataclass(frozen=True)
class IntegerAttention:
    """softmax(scaling q k^T + relative positions) v with a grid, or none, per operand."""

    heads: int
    scaling: float
    query: CodeGrid | None = None
    key: CodeGrid | None = None
    probabilities: SoftmaxGrid | None = None
    value: CodeGrid | None = None
    relative: RelativePositions | None = None

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tokens: TokenMap,
        output: CodeGrid | None = None,
    ) -> Tensor:
        """Attend; operands are values, or codes on their grid, of shape (rows, channels)."""
        result = kernels.attention(
            quantized(query, self.query),
            quantized(key, self.key),
            quantized(value, self.value),
            tokens,
            self.heads,
            self.scaling,
            self.probabilities,
            self.relative,
            output,
        )
        return on_grid(result, output)

    def operands(self, qkv: Linear, normalised: Tensor) -> tuple[Tensor, ...]:
        """The three operands that one layer makes, with one more row: what an all-zero token makes.

        SAM pads windows with zeros after the norm; such tokens are attended to like any other.
        """
        columns = qkv.outputs // 3
        grids, rows = self.joint_grids(columns), normalised.shape[0]
        joint = kernels.empty((rows + 1, 3 * columns), np.float32 if grids is None else np.uint8)
        qkv.to_column_grids(normalised, grids, into=joint[:rows])
        joint[rows:] = qkv.at_zero(grids)
        return tuple(np.split(joint, 3, axis=1)) if grids is None else grids.split(joint)

    def joint_grids(self, columns: int) -> ColumnGrids | None:
        """Grids of query, key and value side by side, `columns` each, if all have one."""
        if self.query is None or self.key is None or self.value is None:
            return None
        return ColumnGrids(((self.query, columns), (self.key, columns), (self.value, columns)))


def quantized(tensor: Tensor | Sum, grid: CodeGrid | None) -> Tensor:
    """Return values as codes on a grid, if there is one; codes stay."""
    if isinstance(tensor, Codes):
        return tensor
    if grid is None:
        return values_of(tensor)
    if isinstance(tensor, Sum):
        return Codes(kernels.quantize(tensor.values, grid, tensor.addend, tensor.undone), grid)
    return Codes(kernels.quantize(tensor, grid), grid)


def on_grid(array: np.ndarray, grid: CodeGrid | None) -> Tensor:
    """Return what a kernel made for a grid, or without one, as what it is."""
    return array if grid is None else Codes(array, grid)
