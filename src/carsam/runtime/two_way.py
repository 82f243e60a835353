"""SAM's two-way transformer: prompt tokens and image tokens attend to each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.runtime.geometry import TokenMap
from carsam.runtime.grids import Grid, Tensor
from carsam.runtime.layers import AttentionProduct, Linear, Norm
from carsam.runtime.weights import Weights, activation_name

FINAL_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class DecoderAttention:
    """Attention between two sets of tokens, with its four projections."""

    query: Linear
    key: Linear
    value: Linear
    product: AttentionProduct
    output: Linear

    def __call__(
        self,
        query: np.ndarray,
        key: np.ndarray,
        value: np.ndarray,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        """Attend within each of P groups and add `residual`.

        Args:
            query: (P or 1, Q, C) float32; 1 if all groups share them.
            key, value: (P or 1, T, C) float32.
            residual: (P, Q, C) float32.

        Returns:
            (P, Q, C) float32, P being the largest number of groups given.
        """
        groups = max(len(query), len(key))
        tokens = TokenMap.of_groups(groups, query.shape[:2], key.shape[:2])
        attended = self.product(
            _project(self.query, query, self.product.query),
            _project(self.key, key, self.product.key),
            _project(self.value, value, self.product.value),
            tokens,
            self.output.input,
        )
        flat = None if residual is None else residual.reshape(-1, residual.shape[-1])
        return self.output(attended, residual=flat).reshape(groups, query.shape[1], -1)


@dataclass(frozen=True)
class TwoWayBlock:
    """Self-attention of the prompt tokens, cross-attention, perceptron, cross-attention back.

    Args:
        adds_positions: whether self-attention sees the tokens' positions; the first block's
            does not, its tokens are the positions.
    """

    self_attention: DecoderAttention
    norm1: Norm
    token_to_image: DecoderAttention
    norm2: Norm
    mlp_in: Linear
    mlp_out: Linear
    activation: str
    norm3: Norm
    image_to_token: DecoderAttention
    norm4: Norm
    adds_positions: bool

    def __call__(
        self,
        tokens: np.ndarray,
        image: np.ndarray,
        token_positions: np.ndarray,
        image_positions: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the new tokens (P, T, C) and image tokens (P, h * w, C).

        Args:
            tokens, token_positions: (P, T, C) float32.
            image: (P, h * w, C) float32, or (1, h * w, C) shared by all prompts.
            image_positions: (h * w, C) float32.
        """
        if self.adds_positions:
            query = tokens + token_positions
            tokens = self.self_attention(query, query, tokens, residual=tokens)
        else:
            tokens = self.self_attention(tokens, tokens, tokens)
        tokens = self.norm1(tokens)

        placed_image = image + image_positions
        tokens = self.token_to_image(tokens + token_positions, placed_image, image, residual=tokens)
        tokens = self.norm2(tokens)

        flat = tokens.reshape(-1, tokens.shape[-1])
        hidden = self.mlp_in.to_grid(flat, self.mlp_out.input, self.activation)
        tokens = self.norm3(self.mlp_out(hidden, residual=flat).reshape(tokens.shape))

        residual = np.broadcast_to(image, (len(tokens), *image.shape[1:]))
        image = self.image_to_token(
            placed_image, tokens + token_positions, tokens, residual=residual
        )
        return tokens, self.norm4(image)


@dataclass(frozen=True)
class TwoWayTransformer:
    """The decoder's transformer."""

    blocks: tuple[TwoWayBlock, ...]
    final_attention: DecoderAttention
    final_norm: Norm

    def __call__(
        self, tokens: np.ndarray, image: np.ndarray, image_positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens (P, T, C) and image tokens (P, h * w, C); see `TwoWayBlock`."""
        token_positions = tokens
        for block in self.blocks:
            tokens, image = block(tokens, image, token_positions, image_positions)
        tokens = self.final_attention(
            tokens + token_positions, image + image_positions, image, residual=tokens
        )
        return self.final_norm(tokens), image


def read_two_way_transformer(weights: Weights, config: Mapping[str, Any]) -> TwoWayTransformer:
    """Build the transformer; `config` is transformers' `mask_decoder_config`."""
    path, channels = "mask_decoder.transformer", config["hidden_size"]
    return TwoWayTransformer(
        tuple(
            _read_block(weights, config, f"{path}.layers.{index}", index > 0)
            for index in range(config["num_hidden_layers"])
        ),
        _read_attention(
            weights,
            config,
            f"{path}.final_attn_token_to_image",
            channels // config["attention_downsample_rate"],
        ),
        weights.norm(f"{path}.layer_norm_final_attn", channels, FINAL_NORM_EPSILON),
    )


def _read_block(
    weights: Weights, config: Mapping[str, Any], path: str, adds_positions: bool
) -> TwoWayBlock:
    channels, hidden = config["hidden_size"], config["mlp_dim"]
    inner = channels // config["attention_downsample_rate"]

    def norm(index: int) -> Norm:
        return weights.norm(f"{path}.layer_norm{index}", channels, config["layer_norm_eps"])

    return TwoWayBlock(
        _read_attention(weights, config, f"{path}.self_attn", channels),
        norm(1),
        _read_attention(weights, config, f"{path}.cross_attn_token_to_image", inner),
        norm(2),
        weights.linear(f"{path}.mlp.lin1", channels, hidden),
        weights.linear(f"{path}.mlp.lin2", hidden, channels),
        activation_name(config),
        norm(3),
        _read_attention(weights, config, f"{path}.cross_attn_image_to_token", inner),
        norm(4),
        adds_positions,
    )


def _read_attention(
    weights: Weights, config: Mapping[str, Any], path: str, inner: int
) -> DecoderAttention:
    channels, heads = config["hidden_size"], config["num_attention_heads"]
    return DecoderAttention(
        weights.linear(f"{path}.q_proj", channels, inner),
        weights.linear(f"{path}.k_proj", channels, inner),
        weights.linear(f"{path}.v_proj", channels, inner),
        weights.attention(path, heads, inner // heads),
        weights.linear(f"{path}.out_proj", inner, channels),
    )


def _project(layer: Linear, tokens: np.ndarray, output: Grid | None) -> Tensor:
    """Apply to (groups, tokens, C) and flatten: (groups * tokens, inner)."""
    return layer.to_grid(tokens.reshape(-1, tokens.shape[-1]), output)
