"""Hiera's blocks in integers: windows or the whole image, with or without pooled queries.

Stage 1 has 256 x 256 tokens, so blocks work on strips of the image, as high as some windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from carsam.runtime import kernels
from carsam.runtime.geometry import TokenMap
from carsam.runtime.grids import Codes, Tensor
from carsam.runtime.layers import IntegerAttention, Linear, Norm
from carsam.runtime.patches import largest_of_squares
from carsam.runtime.strips import strips
from carsam.runtime.weights import Weights, activation_name

POOLING = 2
"""Side of the squares of tokens that become one where a stage begins."""


@dataclass(frozen=True)
class HieraBlock:
    """One block: attention and a two-layer perceptron, each added to its input.

    Args:
        shortcut: what the input of the attention goes through before it is pooled and added, in a
            block that pools; else None.
        window: side of a window in tokens; 0 where all tokens attend to each other.
        stride: side of the squares of tokens that become one; 1 without pooling.
    """

    norm1: Norm
    shortcut: Linear | None
    qkv: Linear
    attention: IntegerAttention
    projection: Linear
    norm2: Norm
    mlp_in: Linear
    mlp_out: Linear
    activation: str
    window: int
    stride: int

    def __call__(self, hidden: np.ndarray, side: int) -> np.ndarray:
        """Map side x side tokens (rows, channels) float32; in their place without pooling."""
        result = hidden
        if self.shortcut is not None:
            result = kernels.empty(((side // self.stride) ** 2, self.projection.outputs))
        for first, last in strips(side, side, self.window or side):
            tokens, place = slice(first * side, last * side), self.place(first, last, side)
            self.strip(hidden[tokens], result[place], (last - first, side))
        return result

    def place(self, first: int, last: int, side: int) -> slice:
        """Return where the tokens stand that are made of some lines of side x side tokens."""
        pooled = side // self.stride
        return slice(first // self.stride * pooled, last // self.stride * pooled)

    def strip(self, tokens: np.ndarray, place: np.ndarray, size: tuple[int, int]) -> None:
        """Map a strip of whole windows of this height and width; `place` gets the result.

        Without pooling that may be the tokens' own.
        """
        self._attend(tokens, place, size)
        normalised = self.norm2.to_grid(place, self.mlp_in.input)
        expanded = self.mlp_in.to_grid(normalised, self.mlp_out.input, self.activation)
        self.mlp_out(expanded, residual=place, into=place)

    def _attend(self, tokens: np.ndarray, place: np.ndarray, size: tuple[int, int]) -> None:
        """Write the attention of a strip of this height and width, with what it is added to."""
        residual: np.ndarray = tokens
        if self.shortcut is None:
            normalised = self.norm1.to_grid(tokens, self.qkv.input)
        else:
            normalised = self.norm1(tokens)
            residual = largest_of_squares(self.shortcut(normalised), size[1], self.stride)
        query, key, value = self.attention.operands(self.qkv, normalised)
        attended = self.attention(
            query if self.stride == 1 else _pooled(query, size, self.stride),
            key,
            value,
            _token_map(size, self.window or size[1], self.stride),
            self.projection.input,
        )
        self.projection(attended, residual=residual, into=place)


def read_blocks(
    weights: Weights, config: Mapping[str, Any], path: str, side: int
) -> tuple[tuple[HieraBlock, ...], ...]:
    """Build the blocks of every stage; `config` is transformers' `backbone_config`.

    Args:
        path: of the backbone.
        side: tokens along a side of the image in the first stage.
    """
    stages, index, before = [], 0, 0
    for stage, count in enumerate(config["blocks_per_stage"]):
        blocks = []
        for place in range(count):
            begins = place == 0 and stage > 0
            pools = begins and stage <= config["num_query_pool_stages"]
            window = config["window_size_per_stage"][before if begins else stage]
            if index in config["global_attention_blocks"]:
                window = 0
            stride = POOLING if pools else 1
            block = _read_block(
                weights, config, f"{path}.blocks.{index}", (before, stage), window, stride, side
            )
            blocks.append(block)
            before, index, side = stage, index + 1, side // stride
        stages.append(tuple(blocks))
    return tuple(stages)


def _read_block(
    weights: Weights,
    config: Mapping[str, Any],
    path: str,
    stages: tuple[int, int],
    window: int,
    stride: int,
    side: int,
) -> HieraBlock:
    """Build a block between these stages, which are the same unless it begins one."""
    inputs, channels = (config["embed_dim_per_stage"][stage] for stage in stages)
    heads = config["num_attention_heads_per_stage"][stages[1]]
    hidden, epsilon = int(channels * config["mlp_ratio"]), config["layer_norm_eps"]
    keys = (window or side) ** 2
    return HieraBlock(
        weights.norm(f"{path}.layer_norm1", inputs, epsilon),
        weights.linear(f"{path}.proj", inputs, channels) if inputs != channels else None,
        weights.linear(f"{path}.attn.qkv", inputs, 3 * channels),
        weights.attention(f"{path}.attn", heads, channels // heads, keys),
        weights.linear(f"{path}.attn.proj", channels, channels),
        weights.norm(f"{path}.layer_norm2", channels, epsilon),
        weights.linear(f"{path}.mlp.proj_in", channels, hidden),
        weights.linear(f"{path}.mlp.proj_out", hidden, channels),
        activation_name(config),
        window,
        stride,
    )


def _pooled(query: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Pool the queries of a strip; the row of the all-zero token behind them is left out.

    Rounding never changes which of two numbers is the larger, so codes can be pooled.
    """
    count = size[0] * size[1]
    if isinstance(query, Codes):
        return Codes(largest_of_squares(query.array[:count], size[1], stride), query.grid)
    return largest_of_squares(query[:count], size[1], stride)


@lru_cache(maxsize=32)
def _token_map(size: tuple[int, int], window: int, stride: int) -> TokenMap:
    return TokenMap.of_pooled_windows(size, window, stride)
