"""SAM's image encoder in integers: ViT blocks with windowed and global attention, then a neck."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.runtime.centred import Centred
from carsam.runtime.geometry import TokenMap
from carsam.runtime.grids import Codes, Tensor
from carsam.runtime.layers import IntegerAttention, Linear, Norm
from carsam.runtime.patches import neighbourhoods, patches
from carsam.runtime.weights import Weights, activation_name

NECK_EPSILON = 1e-6


@dataclass(frozen=True)
class EncoderBlock:
    """One block: attention and a two-layer perceptron, each added to its input."""

    norm1: Norm
    qkv: Linear
    attention: IntegerAttention
    projection: Linear
    norm2: Norm
    mlp_in: Linear
    mlp_out: Linear
    activation: str
    tokens: TokenMap

    def __call__(self, hidden: np.ndarray) -> np.ndarray:
        """Map (tokens, channels) float32 to the same, in its place."""
        normalised = self.norm1.to_grid(hidden, self.qkv.input)
        query, key, value = self.attention.operands(self.qkv, normalised)
        attended = self.attention(query, key, value, self.tokens, self.projection.input)
        self.projection(attended, residual=hidden, into=hidden)
        normalised = self.norm2.to_grid(hidden, self.mlp_in.input)
        expanded = self.mlp_in.to_grid(normalised, self.mlp_out.input, self.activation)
        return self.mlp_out(expanded, residual=hidden, into=hidden)


@dataclass(frozen=True)
class Neck:
    """Two convolutions without bias, each followed by a norm over channels."""

    conv1: Linear | Centred
    norm1: Norm
    conv2: Linear | Centred
    norm2: Norm

    def __call__(self, hidden: np.ndarray, size: int) -> np.ndarray:
        """Map (size * size, channels) float32 to (size * size, output channels)."""
        if isinstance(self.conv2, Centred):
            conv2, table = self.conv2.layer, self.conv2.table
            reduced = self.conv2.rounded(self.norm1(self.conv1(hidden)))
        else:
            conv2, table = self.conv2, None
            reduced = self.norm1.to_grid(self.conv1(hidden), self.conv2.input)
        if isinstance(reduced, Codes):
            image, zero = reduced.array, reduced.grid.zero_point
            around: Tensor = Codes(neighbourhoods(image, size, 3, zero), reduced.grid)
        else:
            around = neighbourhoods(reduced, size, 3, 0)
        return self.norm2(conv2(around, residual=table))


@dataclass(frozen=True)
class Encoder:
    """The image encoder.

    Args:
        patch_size: side of a patch, in pixels.
        size: side of the embedding, in patches.
        positions: (size * size, channels) float32 added to the patches, or None.
    """

    patch_size: int
    size: int
    patch_embedding: Linear
    positions: np.ndarray | None
    blocks: tuple[EncoderBlock, ...]
    neck: Neck

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Map pixels (3, S, S) float32 to the image embedding (C, size, size) float32.

        In memory it stays token by token, as the decoder reads it.
        """
        hidden = self.embed(pixels)
        for block in self.blocks:
            hidden = block(hidden)
        embedding = self.neck(hidden, self.size)
        return embedding.T.reshape(-1, self.size, self.size)

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Map pixels (3, S, S) float32 to the tokens (size * size, channels) of the first block."""
        squares = patches(pixels.transpose(1, 2, 0), self.patch_size)
        return self.patch_embedding(squares, residual=self.positions)


def read_encoder(weights: Weights, config: Mapping[str, Any]) -> Encoder:
    """Build the encoder of a checkpoint; `config` is transformers' `vision_config`."""
    channels, patch_size = config["hidden_size"], config["patch_size"]
    size = config["image_size"] // patch_size
    root = "vision_encoder"
    positions = None
    if config["use_abs_pos"]:
        positions = weights.tensor(f"{root}.pos_embed", 1, size, size, channels)
        positions = positions.reshape(-1, channels)
    neck_channels = config["output_channels"]
    return Encoder(
        patch_size,
        size,
        weights.convolution(
            f"{root}.patch_embed.projection", config["num_channels"], patch_size, channels
        ).rounded_once(),
        positions,
        tuple(
            _read_block(weights, config, size, index)
            for index in range(config["num_hidden_layers"])
        ),
        Neck(
            weights.map_convolution(f"{root}.neck.conv1", channels, 1, neck_channels, size),
            weights.norm(f"{root}.neck.layer_norm1", neck_channels, NECK_EPSILON),
            weights.map_convolution(f"{root}.neck.conv2", neck_channels, 3, neck_channels, size),
            weights.norm(f"{root}.neck.layer_norm2", neck_channels, NECK_EPSILON),
        ),
    )


def _read_block(weights: Weights, config: Mapping[str, Any], size: int, index: int) -> EncoderBlock:
    path = f"vision_encoder.layers.{index}"
    channels, heads = config["hidden_size"], config["num_attention_heads"]
    window = 0 if index in config["global_attn_indexes"] else config["window_size"]
    side, head_dim, hidden = window or size, channels // heads, config["mlp_dim"]
    relative = None
    if config["use_rel_pos"]:
        relative = weights.relative_positions(f"{path}.attn", side, head_dim)
    epsilon = config["layer_norm_eps"]
    return EncoderBlock(
        weights.norm(f"{path}.layer_norm1", channels, epsilon),
        weights.linear(f"{path}.attn.qkv", channels, 3 * channels),
        weights.attention(f"{path}.attn", heads, head_dim, side * side, relative),
        weights.linear(f"{path}.attn.proj", channels, channels),
        weights.norm(f"{path}.layer_norm2", channels, epsilon),
        weights.linear(f"{path}.mlp.lin1", channels, hidden),
        weights.linear(f"{path}.mlp.lin2", hidden, channels),
        activation_name(config),
        TokenMap.of_windows(size, side),
    )
