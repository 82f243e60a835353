"""The native engine's kernels in place of torch code that computes the same bits more slowly.

They are off unless a caller switches them on: the native engine is checked against the simulation,
which must not be made of it. Calibration switches them on. What has other grids, or sums whose
order shows, stays with torch, as everything does with gradients, on other devices, and where the
extension is not built.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from carsam.errors import UnsupportedError
from carsam.grids.base import Grid, UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.fused import ListedRounding
from carsam.grids.grouped import GroupedUniformGrid
from carsam.grids.registry import describe_grid, store_grid
from carsam.grids.tables import TableGrid
from carsam.runtime import kernels
from carsam.runtime.geometry import RelativePositions, TokenMap
from carsam.runtime.grid_readers import READERS
from carsam.runtime.grids import CodeGrid, Codes
from carsam.runtime.input_grids import GroupedLinear
from carsam.runtime.layers import Linear
from carsam.runtime.matrices import PackedMatrix
from carsam.runtime.sums import MOST_COLUMNS
from carsam.simulation.integer_attention import OperandGrids
from carsam.simulation.stored import as_stored

_on: ContextVar[bool] = ContextVar("on_kernels", default=False)

EXACT_BITS = 53
"""Integers up to two to this power are float64 numbers."""


@contextmanager
def on_kernels() -> Iterator[None]:
    """Use the kernels, in this thread, for whatever they compute with the simulation's bits."""
    token = _on.set(True)
    try:
        yield
    finally:
        _on.reset(token)


def usable(values: Tensor) -> bool:
    """Tell whether the kernels are switched on, built, and made for values like these."""
    if not _on.get() or torch.is_grad_enabled():
        return False
    built = kernels.instruction_set() != "numpy"
    return built and values.device.type == "cpu" and values.dtype == torch.float32


def layer_norm(values: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """See `carsam.simulation.arithmetic.layer_norm`."""
    rows = kernels.layer_norm(_rows(values), _array(weight), _array(bias), epsilon)
    return torch.from_numpy(rows).view(values.shape)


def gelu(values: Tensor) -> Tensor:
    """See `carsam.simulation.arithmetic.gelu`."""
    rows = kernels.activate(_rows(values), activation="gelu")
    return torch.from_numpy(rows).view(values.shape)


def rounding(quantizer: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the function that rounds values as a quantizer does."""
    if not isinstance(quantizer, TableGrid):
        return quantizer

    @cache  # for the kernels alone: it reads numbers off the device
    def nearest() -> ListedRounding:
        return quantizer.rounding(torch.ones_like(quantizer.scale))

    def rounded(values: Tensor) -> Tensor:
        return nearest()(values, None) if usable(values) else cast(Tensor, quantizer(values))

    return rounded


def linear(
    inputs: Tensor,
    steps: Tensor,
    weight_grid: UniformGrid,
    input_grid: UniformGrid | GroupedUniformGrid | CodebookGrid,
    bias: Tensor | None,
) -> Tensor:
    """Return what a fully connected layer makes of float inputs (..., K): (..., N).

    Args:
        steps: its weight (N, K), integers on `weight_grid`; K at most `MOST_COLUMNS`.
    """
    # As bytes, which the kernels read as they are: the weight is packed for this call only.
    codes = (steps + weight_grid.zero_point).to(torch.uint8).numpy()
    scale, zero_point = (_array(t.flatten()) for t in (weight_grid.scale, weight_grid.zero_point))
    weight = PackedMatrix(codes, 8, codes.shape[1], scale, zero_point.astype(np.uint8))
    offset = None if bias is None else _array(bias)
    grid = _runtime_grid(input_grid)
    if isinstance(grid, CodeGrid):
        layer = Linear(weight, offset, grid)
    else:
        layer = GroupedLinear(weight, offset, None, grid)
    return torch.from_numpy(layer(_rows(inputs))).view(*inputs.shape[:-1], -1)


def has_columns_for(steps: Tensor) -> bool:
    """Tell whether sums over a weight's columns fit the kernels."""
    return steps.shape[1] <= MOST_COLUMNS


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    tables: tuple[Tensor, Tensor] | None,
    grids: OperandGrids,
) -> Tensor | None:
    """Return the attended values (batch, heads, queries, d); None where bits might differ.

    Args:
        query: (batch, heads, queries, d) float.
        key, value: (batch, heads, keys, d) float. A batch of 1 is shared by all of the other.
        tables: relative positions (2 * size - 1, d) of rows and columns, for size * size tokens.
    """
    listed = grids.probabilities
    if isinstance(listed, TableGrid) and not sums_exactly(listed, grids.value, key.shape[2]):
        return None
    relative = None
    if tables is not None:
        stored = all(torch.equal(as_stored(table), table) for table in tables)
        if not stored or len(query) != len(key):  # else their products with codes are rounded
            return None
        relative = RelativePositions.from_tables(*(_array(table) for table in tables))
    groups, heads = max(len(query), len(key)), query.shape[1]
    tokens = TokenMap.of_groups(groups, (len(query), query.shape[2]), (len(key), key.shape[2]))
    try:
        attended = kernels.attention(
            _codes(query, grids.query),
            _codes(key, grids.key),
            _codes(value, grids.value),
            tokens,
            heads,
            scaling,
            _runtime_grid(grids.probabilities),
            relative,
        )
    except UnsupportedError:  # more keys than the kernels' sums hold
        return None
    return torch.from_numpy(attended).view(groups, query.shape[2], heads, -1).transpose(1, 2)


def sums_exactly(listed: TableGrid, value: UniformGrid | CodebookGrid, keys: int) -> bool:
    """Tell whether float64 sums of listed probabilities times integer values are exact.

    Then their order, in which the kernels differ from torch, does not matter. No value is rounded
    to more than twice itself, unless to the smallest, and all of them together were 1.
    """
    table = listed.table(listed.scale).double()
    largest = float(table.max())
    together = keys * largest if float(table[0]) > 0 else min(keys * largest, 2.5)
    mantissas, exponents = torch.frexp(table[table != 0])
    integers = (mantissas.abs() * 2**24).long()
    low_bits = torch.frexp((integers & -integers).double())[1] - 1
    unit = int((exponents - 24 + low_bits).min())
    return together * value.largest_step < 2.0 ** (EXACT_BITS + unit)


def _runtime_grid(grid: Grid) -> Any:
    tensors = store_grid("", grid)
    return READERS[grid.name](describe_grid(grid), lambda name: tensors[f"_{name}"])


def _codes(tensor: Tensor, grid: UniformGrid | CodebookGrid) -> Codes:
    """Return the codes (batch * tokens, heads * d) of a tensor (batch, heads, tokens, d)."""
    code_grid = cast(CodeGrid, _runtime_grid(grid))
    return Codes(kernels.quantize(_rows(tensor.transpose(1, 2).flatten(2)), code_grid), code_grid)


def _rows(values: Tensor) -> np.ndarray:
    return _array(values.reshape(-1, values.shape[-1]))


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy())
