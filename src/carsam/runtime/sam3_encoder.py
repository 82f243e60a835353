"""SAM 3's image encoder in integers: blocks with rotary positions, and a neck of three levels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.errors import UnsupportedError
from carsam.runtime.geometry import TokenMap
from carsam.runtime.layers import IntegerAttention, Linear, Norm
from carsam.runtime.memory_attention import Rotation
from carsam.runtime.patches import patches, window_rows
from carsam.runtime.sam3_neck import SCALES, Sam3Level, read_level
from carsam.runtime.weights import Weights, activation_name

BACKBONE = "vision_encoder.backbone"


@dataclass(frozen=True)
class Windows:
    """Where the tokens of an image stand once it is padded to whole windows.

    Args:
        size, padded: tokens along a side of the image, before and after.
        cells: (padded * padded,) int32, of each place in its window.
        tokens: who attends to whom; queries beyond the image are skipped.
    """

    size: int
    padded: int
    cells: np.ndarray
    tokens: TokenMap

    @staticmethod
    def of(size: int, window: int) -> "Windows":
        """Windows of a square image from its top left corner."""
        padded = -(-size // window) * window
        places = np.arange(padded, dtype=np.int32)
        inside = places < size
        rows = np.where(inside[:, None] & inside, places[:, None] * size + places, -1)
        output = patches(rows[:, :, None].astype(np.int32), window)
        keys = window_rows((padded, padded), window, -1)
        cells = (places[:, None] % window) * window + places % window
        queries = np.where(output >= 0, keys, -1)
        tokens = TokenMap(queries, keys, np.maximum(output, 0), size * size)
        return Windows(size, padded, np.ascontiguousarray(cells.ravel(), np.int32), tokens)

    def padded_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return tokens (size * size, C) with tokens of zeros around them."""
        if self.padded == self.size:
            return rows
        beyond = (0, self.padded - self.size)
        image = rows.reshape(self.size, self.size, -1)
        return np.pad(image, (beyond, beyond, (0, 0))).reshape(self.padded**2, -1)


@dataclass(frozen=True)
class Sam3Block:
    """One block: attention and a two-layer perceptron, each added to its input."""

    norm1: Norm
    query: Linear
    key: Linear
    value: Linear
    attention: IntegerAttention
    output: Linear
    norm2: Norm
    mlp_in: Linear
    mlp_out: Linear
    activation: str
    rotation: Rotation
    windows: Windows

    def __call__(self, hidden: np.ndarray) -> np.ndarray:
        """Map (tokens, channels) float32 to the same, in its place."""
        normed, product = self.windows.padded_rows(self.norm1(hidden)), self.attention
        attended = product(
            self.rotation(self.query, normed, self.windows.cells, product.query),
            self.rotation(self.key, normed, self.windows.cells, product.key),
            self.value.to_grid(normed, product.value),
            self.windows.tokens,
            self.output.input,
        )
        self.output(attended, residual=hidden, into=hidden)
        normalised = self.norm2.to_grid(hidden, self.mlp_in.input)
        expanded = self.mlp_in.to_grid(normalised, self.mlp_out.input, self.activation)
        return self.mlp_out(expanded, residual=hidden, into=hidden)


@dataclass(frozen=True)
class Sam3Encoder:
    """The image encoder.

    Args:
        size: side of the embedding that the decoder attends to.
        positions: (size * size, channels) float32.
        levels: from fine to coarse.
    """

    patch: int
    size: int
    patch_embedding: Linear
    positions: np.ndarray
    norm: Norm
    blocks: tuple[Sam3Block, ...]
    levels: tuple[Sam3Level, ...]

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Map pixels (3, S, S) float32 to what the decoder reads, all float32.

        Returns:
            The embedding (C, size, size), then the finer levels (C / 4, 2 size, 2 size) and
            (C / 8, 4 size, 4 size). In memory they stay token by token.
        """
        squares = patches(pixels.transpose(1, 2, 0), self.patch)
        hidden = self.norm(self.patch_embedding(squares, residual=self.positions))
        for block in self.blocks:
            hidden = block(hidden)
        levels = (level(hidden, self.size) for level in reversed(self.levels))
        return tuple(level.transpose(2, 0, 1) for level in levels)


def read_sam3_encoder(weights: Weights, config: Mapping[str, Any], image_side: int) -> Sam3Encoder:
    """Build the encoder of a checkpoint; `config` is transformers' `vision_config`.

    Raises:
        UnsupportedError: other levels than SAM 3's.
    """
    backbone = config["backbone_config"]
    if config["scale_factors"][:3] != SCALES:
        raise UnsupportedError(
            f"The native engine makes SAM 3's levels of {SCALES} times the tokens' side; found "
            f"{config['scale_factors']}. Use --engine simulated."
        )
    channels, patch = backbone["hidden_size"], backbone["patch_size"]
    size = image_side // patch
    embedding = weights.convolution(
        f"{BACKBONE}.embeddings.patch_embeddings.projection",
        backbone["num_channels"],
        patch,
        channels,
    )
    return Sam3Encoder(
        patch,
        size,
        embedding.rounded_once(),
        _positions(weights, backbone, size),
        weights.norm(f"{BACKBONE}.layer_norm", channels, backbone["layer_norm_eps"]),
        tuple(
            _read_block(weights, backbone, size, index)
            for index in range(backbone["num_hidden_layers"])
        ),
        tuple(read_level(weights, config, level) for level in range(len(SCALES))),
    )


def _positions(weights: Weights, config: Mapping[str, Any], size: int) -> np.ndarray:
    """Return the table of positions, repeated over the image: (size * size, channels)."""
    side, channels = config["pretrain_image_size"] // config["patch_size"], config["hidden_size"]
    name = f"{BACKBONE}.embeddings.position_embeddings"
    table = weights.tensor(name, 1, side * side, channels).reshape(side, side, channels)
    places = np.arange(size) % side
    return np.ascontiguousarray(table[places[:, None], places].reshape(size * size, channels))


def _read_block(weights: Weights, config: Mapping[str, Any], size: int, index: int) -> Sam3Block:
    path = f"{BACKBONE}.layers.{index}"
    channels, heads = config["hidden_size"], config["num_attention_heads"]
    hidden, epsilon = config["intermediate_size"], config["layer_norm_eps"]
    window = 0 if index in config["global_attn_indexes"] else config["window_size"]
    side, head_dim = window or size, channels // heads
    base = float(config["rope_parameters"]["rope_theta"])

    def linear(name: str, inputs: int, outputs: int) -> Linear:
        return weights.linear(f"{path}.{name}", inputs, outputs)

    return Sam3Block(
        weights.norm(f"{path}.layer_norm1", channels, epsilon),
        linear("attention.q_proj", channels, channels),
        linear("attention.k_proj", channels, channels),
        linear("attention.v_proj", channels, channels),
        weights.attention(f"{path}.attention", heads, head_dim, side * side),
        linear("attention.o_proj", channels, channels),
        weights.norm(f"{path}.layer_norm2", channels, epsilon),
        linear("mlp.fc1", channels, hidden),
        linear("mlp.fc2", hidden, channels),
        activation_name(config),
        Rotation.of_square(side, head_dim, base, config["window_size"] / side),
        Windows.of(size, side),
    )
