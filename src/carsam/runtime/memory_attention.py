"""SAM 2's memory attention: a frame's embedding attends to what is remembered of an object.

Ravi et al., SAM 2 (arXiv 2408.00714), section 4, "memory attention".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.runtime import kernels
from carsam.runtime.geometry import TokenMap
from carsam.runtime.grids import CodeGrid, Codes, Sum, Tensor
from carsam.runtime.layers import IntegerAttention, Linear, Norm
from carsam.runtime.positions import rotary_angles, sine_positions
from carsam.runtime.strips import strips
from carsam.runtime.weights import Weights, activation_name

POSITION_SHARE = np.float32(0.1)
"""Of the sine positions, added to the embedding."""

NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Rotation:
    """How pairs of channels are turned in each cell.

    Args:
        cosines, sines: (cells, pairs) float32.
    """

    cosines: np.ndarray
    sines: np.ndarray

    @staticmethod
    def of_square(side: int, channels: int, base: float, step: float = 1.0) -> "Rotation":
        """The rotation of side x side cells, `step` from each other, of heads of such channels."""
        angles = rotary_angles(side, channels, base, step)
        return Rotation(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))

    def __call__(
        self, layer: Linear, rows: np.ndarray | Sum, cells: np.ndarray, grid: CodeGrid | None
    ) -> Tensor:
        """Return what a layer makes of rows, turned; as codes if there is a grid.

        Args:
            cells: (rows,) int32, -1 for rows that are not turned.
        """
        result = kernels.empty(
            (len(cells), layer.outputs), np.float32 if grid is None else np.uint8
        )
        for first, last in strips(len(cells), 1):
            part = slice(first, last)
            made = layer(rows[part])
            kernels.rotate(made, cells[part], self.cosines, self.sines, into=made)
            result[part] = made if grid is None else kernels.quantize(made, grid)
        return result if grid is None else Codes(result, grid)


@dataclass(frozen=True)
class RotatedAttention:
    """Attention whose queries and keys are turned by their cells, with its four projections."""

    query: Linear
    key: Linear
    value: Linear
    product: IntegerAttention
    output: Linear

    def __call__(
        self,
        tokens: np.ndarray,
        queries: np.ndarray,
        keys: np.ndarray | Sum,
        values: np.ndarray,
        cells: np.ndarray,
        rotation: Rotation,
    ) -> np.ndarray:
        """Add what queries make of keys to tokens: (n, C) float32.

        Args:
            tokens, queries: (n, C) float32, of the cells in order.
            keys, values: (m, D) float32.
            cells: (m,) int32 of the keys.
        """
        places, product = np.arange(len(queries), dtype=np.int32), self.product
        attended = product(
            rotation(self.query, queries, places, product.query),
            rotation(self.key, keys, cells, product.key),
            self.value.to_grid(values, product.value),
            TokenMap.of_groups(1, (1, len(queries)), (1, len(cells))),
            self.output.input,
        )
        return self.output(attended, residual=tokens)


@dataclass(frozen=True)
class MemoryLayer:
    """Self-attention, attention to the memory and a perceptron, each behind its norm."""

    norm1: Norm
    to_itself: RotatedAttention
    norm2: Norm
    to_memory: RotatedAttention
    norm3: Norm
    mlp_in: Linear
    mlp_out: Linear
    activation: str

    def __call__(
        self, tokens: np.ndarray, memory: Sum, cells: np.ndarray, rotation: Rotation
    ) -> np.ndarray:
        """Map tokens (n, C) float32."""
        normed, places = self.norm1(tokens), np.arange(len(tokens), dtype=np.int32)
        tokens = self.to_itself(tokens, normed, normed, normed, places, rotation)
        normed = self.norm2(tokens)
        tokens = self.to_memory(tokens, normed, memory, memory.values, cells, rotation)
        normalised = self.norm3.to_grid(tokens, self.mlp_in.input)
        expanded = self.mlp_in.to_grid(normalised, self.mlp_out.input, self.activation)
        return self.mlp_out(expanded, residual=tokens)


@dataclass(frozen=True)
class MemoryAttention:
    """The memory attention.

    Args:
        placed: (n, C) float32, what of the tokens' positions is added to them.
    """

    placed: np.ndarray
    rotation: Rotation
    layers: tuple[MemoryLayer, ...]
    norm: Norm

    def __call__(self, image: np.ndarray, memory: Sum, cells: np.ndarray) -> np.ndarray:
        """Return an embedding (h, w, C) float32 as the memory of one object makes it.

        Args:
            memory: (m, D) tokens and their positions.
            cells: (m,) the cell whose rotary position a token has; -1 for none.
        """
        tokens = image.reshape(self.placed.shape) + self.placed
        cells = np.ascontiguousarray(cells, np.int32)
        for layer in self.layers:
            tokens = layer(tokens, memory, cells, self.rotation)
        return self.norm(tokens).reshape(image.shape)


def read_memory_attention(
    weights: Weights, config: Mapping[str, Any], size: int
) -> MemoryAttention:
    """Build the memory attention; `config` is transformers' whole configuration.

    Args:
        size: side of the embedding.
    """
    path = "memory_attention"
    channels, heads = config[f"{path}_hidden_size"], config[f"{path}_num_attention_heads"]
    head = channels // config[f"{path}_downsample_rate"] // heads
    return MemoryAttention(
        POSITION_SHARE * sine_positions(size, channels),
        Rotation.of_square(size, head, float(config["rope_parameters"]["rope_theta"])),
        tuple(
            _read_layer(weights, config, f"{path}.layers.{index}", heads, head, size)
            for index in range(config[f"{path}_num_layers"])
        ),
        weights.norm(f"{path}.layer_norm", channels, NORM_EPSILON),
    )


def _read_layer(
    weights: Weights, config: Mapping[str, Any], path: str, heads: int, head: int, size: int
) -> MemoryLayer:
    channels, hidden = (
        config[f"memory_attention_{name}"] for name in ("hidden_size", "feed_forward_hidden_size")
    )
    dimensions, tokens = config["memory_encoder_output_channels"], size * size

    def attention(name: str, inputs: int, keys: int) -> RotatedAttention:
        place, inner = f"{path}.{name}", heads * head
        return RotatedAttention(
            weights.linear(f"{place}.q_proj", channels, inner),
            weights.linear(f"{place}.k_proj", inputs, inner),
            weights.linear(f"{place}.v_proj", inputs, inner),
            weights.attention(place, heads, head, keys),
            weights.linear(f"{place}.o_proj", inner, channels),
        )

    def norm(number: int) -> Norm:
        return weights.norm(f"{path}.layer_norm{number}", channels, NORM_EPSILON)

    pointers = config["max_object_pointers_in_encoder"] * (channels // dimensions)
    return MemoryLayer(
        norm(1),
        attention("self_attn", channels, tokens),
        norm(2),
        attention("cross_attn_image", dimensions, config["num_maskmem"] * tokens + pointers),
        norm(3),
        weights.linear(f"{path}.linear1", channels, hidden),
        weights.linear(f"{path}.linear2", hidden, channels),
        activation_name(config, "memory_attention_feed_forward_hidden_act"),
    )
