"""SAM's two-way transformer: prompt tokens and image tokens attend to each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carsam.runtime.centred import AnyLinear, Centred
from carsam.runtime.geometry import TokenMap
from carsam.runtime.grids import Codes, Operand, Reading, Sum, Tensor
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
        coded: codes (groups * length, C) of what some layers read, made with the values.
    """

    values: np.ndarray
    positions: np.ndarray
    coded: tuple[tuple[Operand, Codes], ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Groups and tokens in each."""
        return self.values.shape[0], self.values.shape[1]

    def flat(self) -> np.ndarray:
        """(groups * length, C)."""
        return self.values.reshape(-1, self.values.shape[-1])

    def replaced(self, flat: np.ndarray) -> "Tokens":
        """Other values (P * length, C) at the same positions."""
        values = flat.reshape(-1, *self.values.shape[1:])
        return Tokens(values, self.positions)

    def normed(
        self, norm: Norm, layer: Linear | Centred, tensor: Tensor, operands: tuple[Operand, ...]
    ) -> "Tokens":
        """The norm of the values and what a layer makes of a tensor (P * length, K), added.

        Already with its codes for some operands.
        """
        read = [(grid, reading) for grid, reading in operands if grid is not None]
        targets = [(grid, *self._added(reading)) for grid, reading in read]
        values, codes = layer.normed(tensor, self.flat(), norm, targets)
        coded = [
            (operand, Codes(each, operand[0])) for operand, each in zip(read, codes, strict=True)
        ]
        return replace(self.replaced(values), coded=tuple(coded))

    def operand(self, operand: Operand) -> Sum | Tensor:
        """What a layer reads, (groups * length, C)."""
        grid, reading = operand
        for (known, known_reading), codes in self.coded:
            if known is grid and known_reading is reading:
                return codes
        addend, undone = self._added(reading)
        return self.flat() if addend is None else Sum(self.flat(), addend, undone)

    def _added(self, reading: Reading) -> tuple[np.ndarray | None, bool]:
        """What is added to the values, and whether it is subtracted again."""
        if reading is Reading.VALUES:
            return None, False
        positions = self.positions.reshape(-1, self.positions.shape[-1])
        return positions, reading is Reading.UNPLACED

    def part(self, groups: slice) -> "Tokens":
        """Some of the groups; all of it if there is only one, which every prompt shares."""
        if len(self.values) == 1:
            return self
        positions = self.positions if len(self.positions) == 1 else self.positions[groups]
        return Tokens(self.values[groups], positions)


@dataclass(frozen=True)
class DecoderAttention:
    """Attention between two sets of tokens, with its four projections."""

    query: AnyLinear
    key: AnyLinear
    value: AnyLinear
    product: IntegerAttention
    output: AnyLinear

    def __call__(
        self,
        queries: Tokens,
        keys: Tokens,
        placed: bool = True,
        added: bool = True,
        projected: Tensor | None = None,
    ) -> np.ndarray:
        """Let queries attend to keys within each of P groups.

        Args:
            placed: whether queries and keys (not values) include their positions.
            added: whether the result is added to the queries' values.
            projected: the queries as `project` returns them, if that is known already.

        Returns:
            (P * queries, C) float32.
        """
        output, attended = self._attended(queries, keys, placed, projected)
        return output(attended, residual=queries.flat() if added else None)

    def normed(
        self,
        queries: Tokens,
        keys: Tokens,
        projected: Tensor | None,
        norm: Norm,
        operands: tuple[Operand, ...],
    ) -> Tokens:
        """The norm of what `__call__` returns, and already its codes for some operands."""
        output, attended = self._attended(queries, keys, True, projected)
        return queries.normed(norm, output, attended, operands)

    def _attended(
        self, queries: Tokens, keys: Tokens, placed: bool, projected: Tensor | None
    ) -> tuple[Linear | Centred, Tensor]:
        """The layer at the end, and what it is applied to."""
        groups = max(queries.shape[0], keys.shape[0])
        output = self.output.for_tokens(queries.shape[1])
        key, value = (x.for_tokens(keys.shape[1]) for x in (self.key, self.value))
        attended = self.product(
            self.project(queries, placed) if projected is None else projected,
            key.to_grid(keys.operand(key.reads(placed)), self.product.key),
            value.to_grid(keys.operand(value.reads(False)), self.product.value),
            TokenMap.of_groups(groups, queries.shape, keys.shape),
            output.input,
        )
        return output, attended

    def project(self, queries: Tokens, placed: bool = True) -> Tensor:
        """What is multiplied with the keys, (groups * queries, channels)."""
        query = self.query.for_tokens(queries.shape[1])
        return query.to_grid(queries.operand(query.reads(placed)), self.product.query)

    @property
    def of_keys(self) -> tuple[Operand, ...]:
        """What is read of keys that include their positions."""
        return self.key.reads(True), self.value.reads(False)


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
    mlp_in: AnyLinear
    mlp_out: AnyLinear
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
        mlp_in, mlp_out = (x.for_tokens(tokens.shape[1]) for x in (self.mlp_in, self.mlp_out))
        hidden = mlp_in.to_grid(flat, mlp_out.input, self.activation)
        return tokens.replaced(self.norm3(mlp_out(hidden, residual=flat)))

    def new_image(
        self,
        tokens: Tokens,
        image: Tokens,
        operands: tuple[Operand, ...],
        projected: Tensor | None,
    ) -> Tokens:
        """Return the image tokens of P groups after `tokens`, which are new already.

        Args:
            operands: what is read of them next.
            projected: what `image_to_token` makes of queries that all groups share.
        """
        return self.image_to_token.normed(image, tokens, projected, self.norm4, operands)

    @property
    def of_image(self) -> tuple[Operand, ...]:
        """What is read of the image tokens."""
        return (*self.token_to_image.of_keys, self.image_to_token.query.reads(True))


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
        following = [*(block.of_image for block in others), self.final_attention.of_keys]
        all_tokens = first.new_tokens(tokens, image)
        projected = first.image_to_token.project(image) if image.shape[0] == 1 else None
        for start in range(0, len(all_tokens.values), PROMPTS_AT_ONCE):
            prompts = slice(start, start + PROMPTS_AT_ONCE)
            tokens = all_tokens.part(prompts)
            picture = first.new_image(tokens, image.part(prompts), following[0], projected)
            for block, operands in zip(others, following[1:], strict=True):
                tokens = block.new_tokens(tokens, picture)
                picture = block.new_image(tokens, picture, operands, None)
            attended = self.final_norm(self.final_attention(tokens, picture))
            yield tokens.replaced(attended).values, picture.values


def read_two_way_transformer(
    weights: Weights, config: Mapping[str, Any], positions: np.ndarray, form: TwoWayForm
) -> TwoWayTransformer:
    """Build the transformer.

    Args:
        config: transformers' `mask_decoder_config`.
        positions: (h * w, C) float32, of the image's tokens.
    """
    path, channels = "mask_decoder.transformer", config["hidden_size"]
    return TwoWayTransformer(
        tuple(
            _read_block(weights, config, f"{path}.layers.{index}", index > 0, positions, form)
            for index in range(config["num_hidden_layers"])
        ),
        _read_attention(
            weights,
            config,
            f"{path}.final_attn_token_to_image",
            channels // config["attention_downsample_rate"],
            len(positions),
            positions,
            form,
        ),
        weights.norm(f"{path}.layer_norm_final_attn", channels, FINAL_NORM_EPSILON),
    )


def _read_block(
    weights: Weights,
    config: Mapping[str, Any],
    path: str,
    adds_positions: bool,
    positions: np.ndarray,
    form: TwoWayForm,
) -> TwoWayBlock:
    channels, hidden = config["hidden_size"], config["mlp_dim"]
    inner = channels // config["attention_downsample_rate"]
    # Those of the prompts come on top.
    tokens = config["num_multimask_outputs"] + 1 + form.own_tokens

    def attention(name: str, inner: int, keys: int) -> DecoderAttention:
        return _read_attention(weights, config, f"{path}.{name}", inner, keys, positions, form)

    def norm(index: int) -> Norm:
        return weights.norm(f"{path}.layer_norm{index}", channels, form.epsilon)

    return TwoWayBlock(
        attention("self_attn", channels, tokens),
        norm(1),
        attention("cross_attn_token_to_image", inner, len(positions)),
        norm(2),
        weights.tokens_linear(f"{path}.mlp.{form.mlp[0]}", channels, hidden),
        weights.tokens_linear(f"{path}.mlp.{form.mlp[1]}", hidden, channels),
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
    positions: np.ndarray,
    form: TwoWayForm,
) -> DecoderAttention:
    channels, heads = config["hidden_size"], config["num_attention_heads"]
    return DecoderAttention(
        weights.tokens_linear(f"{path}.q_proj", channels, inner, positions),
        weights.tokens_linear(f"{path}.k_proj", channels, inner, positions),
        weights.tokens_linear(f"{path}.v_proj", channels, inner),
        weights.attention(path, heads, inner // heads, keys),
        weights.tokens_linear(f"{path}.{form.output}", inner, channels),
    )
