"""SAM's two-way transformer: prompt tokens and image tokens attend to each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.runtime.geometry import TokenMap
from carsam.runtime.grids import Sum
from carsam.runtime.layers import IntegerAttention, Linear, Norm
from carsam.runtime.weights import Weights, activation_name

FINAL_NORM_EPSILON = 1e-5

PROMPTS_AT_ONCE = 4
"""Prompts decoded together; bounds memory, each holds an image embedding of its own."""


@dataclass(frozen=True)
class TwoWayForm:
    """How the two-way transformers of one family of models differ from those of another.

    Args:
        output: name of the projection behind an attention's products.
        mlp: names of the perceptron's layers.
        activation: of the perceptron.
        epsilon: of the blocks' norms.
        own_tokens: beside those of masks and prompts.
    """

    output: str
    mlp: tuple[str, str]
    activation: str
    epsilon: float
    own_tokens: int

    @staticmethod
    def of_sam(config: Mapping[str, Any]) -> "TwoWayForm":
        """SAM's; `config` is transformers' `mask_decoder_config`."""
        activation, epsilon = activation_name(config), config["layer_norm_eps"]
        return TwoWayForm("out_proj", ("lin1", "lin2"), activation, epsilon, own_tokens=1)

    @staticmethod
    def of_sam2() -> "TwoWayForm":
        """SAM 2's, of which the configuration says nothing."""
        return TwoWayForm("o_proj", ("proj_in", "proj_out"), "relu", 1e-5, own_tokens=2)


@dataclass(frozen=True)
class Tokens:
    """Tokens of P groups, or of one group that all prompts share.

    Args:
        values: (groups, length, C) float32.
        positions: (groups or 1, length, C) float32.
    """

    values: np.ndarray
    positions: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Groups and tokens in each."""
        return self.values.shape[0], self.values.shape[1]

    def flat(self) -> np.ndarray:
        """(groups * length, C)."""
        return self.values.reshape(-1, self.values.shape[-1])

    def placed(self) -> Sum:
        """The values with their positions, (groups * length, C)."""
        return Sum(self.flat(), self.positions.reshape(-1, self.positions.shape[-1]))

    def replaced(self, flat: np.ndarray) -> "Tokens":
        """Other values (P * length, C) at the same positions."""
        values = flat.reshape(-1, *self.values.shape[1:])
        return Tokens(values, self.positions)

    def part(self, groups: slice) -> "Tokens":
        """Some of the groups; all of it if there is only one, which every prompt shares."""
        if len(self.values) == 1:
            return self
        positions = self.positions if len(self.positions) == 1 else self.positions[groups]
        return Tokens(self.values[groups], positions)


@dataclass(frozen=True)
class DecoderAttention:
    """Attention between two sets of tokens, with its four projections."""

    query: Linear
    key: Linear
    value: Linear
    product: IntegerAttention
    output: Linear

    def __call__(
        self, queries: Tokens, keys: Tokens, placed: bool = True, added: bool = True
    ) -> np.ndarray:
        """Let queries attend to keys within each of P groups.

        Args:
            placed: whether queries and keys (not values) include their positions.
            added: whether the result is added to the queries' values.

        Returns:
            (P * queries, C) float32.
        """
        groups = max(queries.shape[0], keys.shape[0])
        attended = self.product(
            self.query.to_grid(queries.placed() if placed else queries.flat(), self.product.query),
            self.key.to_grid(keys.placed() if placed else keys.flat(), self.product.key),
            self.value.to_grid(keys.flat(), self.product.value),
            TokenMap.of_groups(groups, queries.shape, keys.shape),
            self.output.input,
        )
        return self.output(attended, residual=queries.flat() if added else None)


@dataclass(frozen=True)
class TwoWayBlock:
    """Self-attention of the prompt tokens, cross-attention, perceptron, cross-attention back.

    Args:
        adds_positions: whether self-attention sees the tokens' positions and is added to the
            tokens; the first block's is not, its tokens are the positions.
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

    def new_tokens(self, tokens: Tokens, image: Tokens) -> Tokens:
        """Return the new prompt tokens of P groups."""
        attended = self.self_attention(tokens, tokens, self.adds_positions, self.adds_positions)
        tokens = tokens.replaced(self.norm1(attended))
        tokens = tokens.replaced(self.norm2(self.token_to_image(tokens, image)))
        flat = tokens.flat()
        hidden = self.mlp_in.to_grid(flat, self.mlp_out.input, self.activation)
        return tokens.replaced(self.norm3(self.mlp_out(hidden, residual=flat)))

    def new_image(self, tokens: Tokens, image: Tokens) -> Tokens:
        """Return the image tokens of P groups after `tokens`, which are new already."""
        return image.replaced(self.norm4(self.image_to_token(image, tokens)))


@dataclass(frozen=True)
class TwoWayTransformer:
    """The decoder's transformer."""

    blocks: tuple[TwoWayBlock, ...]
    final_attention: DecoderAttention
    final_norm: Norm

    def __call__(self, tokens: Tokens, image: Tokens) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield prompt tokens (p, T, C) and image tokens (p, h * w, C) of a few prompts at a time.

        What the first block makes of an image that all prompts share is made once.
        """
        first, *others = self.blocks
        all_tokens = first.new_tokens(tokens, image)
        for start in range(0, len(all_tokens.values), PROMPTS_AT_ONCE):
            prompts = slice(start, start + PROMPTS_AT_ONCE)
            tokens = all_tokens.part(prompts)
            picture = first.new_image(tokens, image.part(prompts))
            for block in others:
                tokens = block.new_tokens(tokens, picture)
                picture = block.new_image(tokens, picture)
            attended = self.final_norm(self.final_attention(tokens, picture))
            yield tokens.replaced(attended).values, picture.values


def read_two_way_transformer(
    weights: Weights, config: Mapping[str, Any], image_tokens: int, form: TwoWayForm
) -> TwoWayTransformer:
    """Build the transformer; `config` is transformers' `mask_decoder_config`."""
    path, channels = "mask_decoder.transformer", config["hidden_size"]
    return TwoWayTransformer(
        tuple(
            _read_block(weights, config, f"{path}.layers.{index}", index > 0, image_tokens, form)
            for index in range(config["num_hidden_layers"])
        ),
        _read_attention(
            weights,
            config,
            f"{path}.final_attn_token_to_image",
            channels // config["attention_downsample_rate"],
            image_tokens,
            form,
        ),
        weights.norm(f"{path}.layer_norm_final_attn", channels, FINAL_NORM_EPSILON),
    )


def _read_block(
    weights: Weights,
    config: Mapping[str, Any],
    path: str,
    adds_positions: bool,
    image_tokens: int,
    form: TwoWayForm,
) -> TwoWayBlock:
    channels, hidden = config["hidden_size"], config["mlp_dim"]
    inner = channels // config["attention_downsample_rate"]
    # Those of the prompts come on top.
    tokens = config["num_multimask_outputs"] + 1 + form.own_tokens

    def attention(name: str, inner: int, keys: int) -> DecoderAttention:
        return _read_attention(weights, config, f"{path}.{name}", inner, keys, form)

    def norm(index: int) -> Norm:
        return weights.norm(f"{path}.layer_norm{index}", channels, form.epsilon)

    return TwoWayBlock(
        attention("self_attn", channels, tokens),
        norm(1),
        attention("cross_attn_token_to_image", inner, image_tokens),
        norm(2),
        weights.linear(f"{path}.mlp.{form.mlp[0]}", channels, hidden),
        weights.linear(f"{path}.mlp.{form.mlp[1]}", hidden, channels),
        form.activation,
        norm(3),
        attention("cross_attn_image_to_token", inner, tokens),
        norm(4),
        adds_positions,
    )


def _read_attention(
    weights: Weights,
    config: Mapping[str, Any],
    path: str,
    inner: int,
    keys: int,
    form: TwoWayForm,
) -> DecoderAttention:
    channels, heads = config["hidden_size"], config["num_attention_heads"]
    return DecoderAttention(
        weights.linear(f"{path}.q_proj", channels, inner),
        weights.linear(f"{path}.k_proj", channels, inner),
        weights.linear(f"{path}.v_proj", channels, inner),
        weights.attention(path, heads, inner // heads, keys),
        weights.linear(f"{path}.{form.output}", inner, channels),
    )
