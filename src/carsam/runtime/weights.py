"""From the tensors of a checkpoint to the layers of the native engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from carsam.errors import UnsupportedError, UserError
from carsam.formats.checkpoint import Checkpoint
from carsam.runtime.centred import AnyLinear, Centred, TokenCentred, map_table
from carsam.runtime.convolution import DepthwiseConvolution
from carsam.runtime.functions import ACTIVATIONS
from carsam.runtime.geometry import RelativePositions
from carsam.runtime.grid_readers import READERS
from carsam.runtime.grids import Codebook, CodeGrid
from carsam.runtime.input_grids import GroupedGrid, GroupedLinear, ListedLinear
from carsam.runtime.layers import IntegerAttention, Linear, Norm
from carsam.runtime.matrices import PackedMatrix
from carsam.runtime.softmax_grids import SoftmaxGrid
from carsam.runtime.sums import MOST_COLUMNS, check_attention
from carsam.runtime.tables import CodeTable


@dataclass(frozen=True)
class Weights:
    """Reads layers by their path in the original model.

    Raises (all methods):
        UserError: a tensor is missing or has another shape, or a grid is not supported.
    """

    checkpoint: Checkpoint

    def tensor(self, name: str, *shape: int) -> np.ndarray:
        """A float part as float32; its shape is checked if given."""
        found = self._raw(name)
        if shape and found.shape != shape:
            raise UserError(
                f"The checkpoint's {name} has shape {found.shape}, its model configuration asks "
                f"for {shape}. Quantize the model again."
            )
        return found.astype(np.float32)

    def norm(self, path: str, channels: int, epsilon: float) -> Norm:
        """A layer normalisation."""
        weight = self.tensor(f"{path}.weight", channels)
        return Norm(weight, self.tensor(f"{path}.bias", channels), epsilon)

    def linear(self, path: str, columns: int, rows: int) -> Linear:
        """A fully connected layer, or a convolution of side 1."""
        weight, bias = self._matrix(path, columns), self._bias(path)
        grid = self._grid(path, "input", CodeGrid | Codebook | CodeTable | GroupedGrid)
        if isinstance(grid, GroupedGrid):
            layer: Linear = GroupedLinear(weight, bias, None, grid)
            self._check_groups(path, grid, columns)
        elif isinstance(grid, CodeTable):
            layer = ListedLinear(weight, bias, None, grid)
        else:
            layer = Linear(weight, bias, grid)
        if layer.outputs != rows or (bias is not None and bias.shape != (rows,)):
            raise UserError(
                f"The checkpoint's {path} has {layer.outputs} outputs, its model configuration "
                f"asks for {rows}. Quantize the model again."
            )
        return layer

    def tokens_linear(
        self, path: str, columns: int, rows: int, positions: np.ndarray | None = None
    ) -> AnyLinear:
        """A fully connected layer of the two-way transformer, centred where its checkpoint says so.

        Args:
            positions: (h * w, columns) float32, of the image's tokens, if it may read these.
        """
        layer = self.linear(path, columns, rows)
        centre = self._centre(path)
        if centre is None:
            return layer
        if centre == "places" and positions is not None:
            weight = self.tensor(f"{path}.centre.weight", rows, columns)
            table = positions.astype(np.float64) @ weight.astype(np.float64).T
            return Centred(layer, table.astype(np.float32), weight=weight)
        means = self.tensor(f"{path}.centre.means")
        table = self.tensor(f"{path}.centre.table", len(means), rows)
        if means.shape != (len(table), columns):
            raise UserError(
                f"The checkpoint's {path}.centre.means has shape {means.shape}; expected "
                f"{(len(table), columns)}. Quantize the model again."
            )
        return TokenCentred(layer, means, table)

    def convolution(self, path: str, channels: int, side: int, rows: int) -> Linear:
        """A convolution for channel-last patches: columns ordered (height, width, channel)."""
        grid, layer = self.grid(path, "input"), self.linear(path, channels * side * side, rows)
        order = np.arange(channels * side * side).reshape(channels, side * side).T.ravel()
        return Linear(_rearranged(layer.weight, order), layer.bias, grid)

    def depthwise(self, path: str, channels: int, side: int) -> DepthwiseConvolution:
        """A convolution of every channel by itself, with squares of an odd side."""
        grid, layer = self.grid(path, "input"), self.linear(path, side * side, channels)
        return DepthwiseConvolution(layer.weight, layer.bias, grid)

    def map_convolution(
        self, path: str, channels: int, side: int, rows: int, size: int
    ) -> Linear | Centred:
        """A convolution over a map of size x size, centred where its checkpoint says so."""
        layer = (
            self.linear(path, channels, rows)
            if side == 1
            else self.convolution(path, channels, side, rows)
        )
        if self._centre(path) is None:
            return layer
        taps = self.tensor(f"{path}.centre.taps", side * side, rows)
        table = taps if side == 1 else map_table(taps, size, size)
        return Centred(layer, table, self.tensor(f"{path}.centre.means", channels)[None])

    def transposed_convolution(self, path: str, channels: int, side: int, rows: int) -> Linear:
        """A transposed convolution whose stride is its side.

        Its outputs are ordered (height, width, channel) within the patch of each input pixel.
        """
        weight, bias, patch = self._matrix(path, channels * side * side), self._bias(path), side**2
        if not isinstance(weight, PackedMatrix):
            # float parts keep their original layout (in, out, height, width)
            kernel = weight.reshape(channels, rows, patch)
            matrix: PackedMatrix | np.ndarray = kernel.transpose(2, 1, 0).reshape(-1, channels)
        else:
            codes = weight.codes().reshape(rows, channels, patch).transpose(2, 0, 1)
            matrix = PackedMatrix.from_codes(
                np.ascontiguousarray(codes).reshape(-1, channels),
                weight.bits,
                np.tile(weight.scale, patch),
                np.tile(weight.zero_point, patch),
            )
        tiled = None if bias is None else np.tile(bias, patch)
        return Linear(matrix, tiled, self.grid(path, "input"))

    def attention(
        self,
        path: str,
        heads: int,
        head_dim: int,
        keys: int,
        relative: RelativePositions | None = None,
    ) -> IntegerAttention:
        """The two products of an attention module whose queries attend to so many keys, or more."""
        query, key, value = (self.grid(path, operand) for operand in ("query", "key", "value"))
        probabilities = self._grid(path, "probabilities", SoftmaxGrid)
        check_attention(query, key, probabilities, value, head_dim, keys, path)
        scaling = head_dim**-0.5
        return IntegerAttention(heads, scaling, query, key, probabilities, value, relative)

    def relative_positions(self, path: str, size: int, head_dim: int) -> RelativePositions:
        """The decomposed relative positions of a vision attention over size x size tokens."""
        return RelativePositions.from_tables(
            self.tensor(f"{path}.rel_pos_h", 2 * size - 1, head_dim),
            self.tensor(f"{path}.rel_pos_w", 2 * size - 1, head_dim),
        )

    def grid(self, path: str, operand: str) -> CodeGrid | None:
        """The uniform grid or codebook of an activation, None where it stays float."""
        found: CodeGrid | None = self._grid(path, operand, CodeGrid | Codebook)
        return found

    def _grid(self, path: str, operand: str, kinds: Any) -> Any:
        """The grid of an activation, one of the union `kinds`, or None where it stays float."""
        site = self.checkpoint.manifest["sites"].get(path)
        if site is None or operand not in site["operands"]:
            return None
        description = site["operands"][operand]
        reader = READERS.get(description["grid"])
        found = reader and reader(description, lambda name: self._raw(f"{path}.{operand}_{name}"))
        if type(found) not in get_args(kinds):
            raise UnsupportedError(
                f"The native engine has no {description['grid']} grid for the {operand} of {path}. "
                "Use --engine simulated."
            )
        return found

    def _check_groups(self, path: str, grid: GroupedGrid, columns: int) -> None:
        if len(grid.group) != columns:
            raise UserError(
                f"The checkpoint's {path} has groups of {len(grid.group)} inputs, its model "
                f"configuration asks for {columns}. Quantize the model again."
            )

    def _matrix(self, path: str, columns: int) -> PackedMatrix | np.ndarray:
        site = self.checkpoint.manifest["sites"].get(path)
        if site is None or site["weight"] is None:
            weight = self.tensor(f"{path}.weight")
            if weight.size % columns:
                raise UserError(
                    f"The checkpoint's {path}.weight has shape {weight.shape}, its model "
                    f"configuration asks for {columns} inputs. Quantize the model again."
                )
            return weight.reshape(-1, columns)
        if columns > MOST_COLUMNS:
            raise UnsupportedError(
                f"{path} has {columns} inputs; the native engine sums at most {MOST_COLUMNS} "
                "products. Use --engine simulated."
            )
        if site["weight"]["grid"] != "uniform":
            raise UnsupportedError(
                f"The native engine has no {site['weight']['grid']} grid for the weight of {path}. "
                "Use --engine simulated."
            )
        return PackedMatrix(
            self._raw(f"{path}.weight_packed"),
            int(site["weight"]["bits"]),
            columns,
            self._raw(f"{path}.weight_scale"),
            self._raw(f"{path}.weight_zero_point"),
        )

    def _centre(self, path: str) -> str | None:
        """What is taken out of a layer's inputs, one of `formats.manifest.CENTRES`."""
        centre: str | None = self.checkpoint.manifest["sites"].get(path, {}).get("centre")
        return centre

    def _bias(self, path: str) -> np.ndarray | None:
        name = f"{path}.bias"
        return self.tensor(name) if name in self.checkpoint.tensors else None

    def _raw(self, name: str) -> np.ndarray:
        found = self.checkpoint.tensors.get(name)
        if found is None:
            raise UserError(f"The checkpoint lacks {name}. Quantize the model again.")
        return found


def activation_name(config: Mapping[str, Any], key: str = "hidden_act") -> str:
    """The activation function of a part's configuration, checked to be one that exists here."""
    name = config[key]
    if name not in ACTIVATIONS:
        raise UserError(
            f"The native engine has no activation function {name}; it has "
            f"{', '.join(ACTIVATIONS)}. Use --engine simulated."
        )
    return str(name)


def _rearranged(weight: PackedMatrix | np.ndarray, order: np.ndarray) -> PackedMatrix | np.ndarray:
    """The columns of `weight` in another order."""
    if not isinstance(weight, PackedMatrix):
        return weight[:, order]
    codes = np.ascontiguousarray(weight.codes()[:, order])
    return PackedMatrix.from_codes(codes, weight.bits, weight.scale, weight.zero_point)
