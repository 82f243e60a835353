"""The two products of attention with quantized operands, and how models are given them."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

from carsam.grids.base import UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.row_maximum import RowMaximumGrid, round_to_steps_
from carsam.grids.tables import Log1pGrid, LogGrid, TwinUniformGrid
from carsam.runtime.functions import LOG2_E
from carsam.runtime.softmax_grids import STEPS_PER_OCTAVE
from carsam.simulation import integer_attention, on_kernels, products
from carsam.simulation.integer_attention import OperandGrids
from carsam.simulation.relative_position import RelativePosition

OPERANDS = ("query", "key", "probabilities", "value")
INTERFACE = "carsam"
SCORES_AT_ONCE = 1 << 24
FEW_KEYS = 32

INTEGER_GRIDS: dict[str, tuple[type[nn.Module], ...]] = {
    "query": (UniformGrid, CodebookGrid),
    "key": (UniformGrid, CodebookGrid),
    "probabilities": (UniformGrid, RowMaximumGrid, LogGrid, Log1pGrid, TwinUniformGrid),
    "value": (UniformGrid, CodebookGrid),
}
"""Grids of each operand with which the native engine's bits are computed."""


class AttentionProduct(nn.Module):
    """softmax(q k' * scaling + bias) v, with a quantizer for each of the four operands.

    Every quantizer is an identity (float), an observer, or a grid. Without gradients, codes of
    `INTEGER_GRIDS` are multiplied as integers, as the native engine does. With gradients, scores
    too many to be computed at once are forgotten, and computed again in the backward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.quantizers = nn.ModuleDict({operand: nn.Identity() for operand in OPERANDS})

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        relative_position: RelativePosition | None = None,
    ) -> Tensor:
        """Return the attended values (batch, heads, queries, d).

        Args:
            query: (batch, heads, queries, d), before scaling.
            key, value: (batch or 1, heads, keys, d); a batch of 1 is shared by all queries.
            relative_position: adds its bias, computed from the quantized query.
        """
        if self.multiplies_integers():
            grids = OperandGrids(**cast(dict[str, Any], dict(self.quantizers.items())))
            return _attend_integers(query, key, value, scaling, relative_position, grids)
        query = self.quantizers["query"](query)
        key = self.quantizers["key"](key)
        value = self.quantizers["value"](value)
        parts = parts_at_once(query, key)
        if len(parts) == 1:
            return self._attend(query, key, value, scaling, relative_position)
        batch = max(len(query), len(key))
        query, key, value = (t.expand(batch, -1, -1, -1) for t in (query, key, value))
        attended = query.new_empty(query.shape)
        for part in parts:
            attended[part] = self._attend_and_forget(
                query[part], key[part], value[part], scaling, relative_position
            )
        return attended

    def multiplies_integers(self) -> bool:
        """Tell whether codes are multiplied: all four operands have grids for that."""
        return not torch.is_grad_enabled() and all(
            type(self.quantizers[operand]) in grids for operand, grids in INTEGER_GRIDS.items()
        )

    def _attend_and_forget(self, *operands: Any) -> Tensor:
        """Attend; where gradients are wanted, keep no scores, if a second time gives the same."""
        draws = getattr(self.quantizers["probabilities"], "draws", False)
        if draws or not torch.is_grad_enabled():
            return self._attend(*operands)
        found = checkpoint(self._attend, *operands, use_reentrant=False, preserve_rng_state=False)
        return cast(Tensor, found)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        relative_position: RelativePosition | None,
    ) -> Tensor:
        scores = scores_of(query, key, scaling, relative_position)
        quantizer = self.quantizers["probabilities"]
        if is_relative(quantizer):
            parts = quantizer(powers_of(scores))
            return products.matmul(parts, value) / parts.sum(-1, keepdim=True)
        return products.matmul(quantizer(softmax(scores)), value)


def parts_at_once(query: Tensor, key: Tensor) -> list[tuple[slice, slice]]:
    """Return the images and heads whose scores are computed at once; all may not fit the memory."""
    batch, heads, queries, keys = max(len(query), len(key)), *query.shape[1:3], key.shape[2]
    if batch * heads * queries * keys <= SCORES_AT_ONCE:
        return [(slice(None), slice(None))]
    at_once = max(1, SCORES_AT_ONCE // (queries * keys))
    return [
        (slice(image, image + 1), slice(head, head + at_once))
        for image in range(batch)
        for head in range(0, heads, at_once)
    ]


def scores_of(
    query: Tensor,
    key: Tensor,
    scaling: float,
    relative_position: RelativePosition | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """Return the scores (batch, heads, queries, keys), or those of some rows of the queries."""
    some = query if rows is None else query[:, :, rows]
    scores = products.matmul(some * scaling, key.transpose(-2, -1))
    if relative_position is not None:
        scores = relative_position.add_(scores, query, rows)
    return scores


def powers_of(scores: Tensor) -> Tensor:
    """Return exp(score - largest score of the row), of scores rounded to steps.

    Steps are those of `carsam.runtime.softmax_grids`; gradients take no notice of them.
    """
    below = scores - scores.amax(-1, keepdim=True)
    steps = round_to_steps_(scores.detach() * LOG2_E)
    rounded = (steps - steps.amax(-1, keepdim=True)) / (STEPS_PER_OCTAVE * LOG2_E)
    return torch.exp(below + (rounded - below.detach()))


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax over the keys; over a few, torch is five times as fast across rows."""
    if scores.shape[-1] >= FEW_KEYS:
        return torch.softmax(scores, dim=-1)
    return torch.softmax(scores.mT.contiguous(), dim=-2).mT


def is_relative(quantizer: nn.Module) -> bool:
    """Tell whether a quantizer of probabilities takes them divided by their row's largest."""
    return getattr(quantizer, "relative_to_maximum", False)


def rounding_of_probabilities(quantizer: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what makes of probabilities (..., keys) what the values are multiplied by in the end.

    It gives a tensor of its own.
    """
    if not is_relative(quantizer):
        return on_kernels.rounding(quantizer)

    def relative(probabilities: Tensor) -> Tensor:
        parts = quantizer(probabilities / probabilities.amax(-1, keepdim=True))
        return cast(Tensor, parts / parts.sum(-1, keepdim=True))

    return relative


class QuantizedVisionAttention(nn.Module):
    """Takes the place of SAM's vision attention, whose relative positions bypass any hook.

    It holds the original's layers under the original's names.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        original: Any = attention
        self.qkv, self.proj = original.qkv, original.proj
        self.num_attention_heads, self.scale = original.num_attention_heads, original.scale
        self.use_rel_pos = original.use_rel_pos
        if self.use_rel_pos:
            self.rel_pos_h, self.rel_pos_w = original.rel_pos_h, original.rel_pos_w
        self.product = AttentionProduct()

    def forward(
        self, hidden_states: Tensor, output_attentions: bool | None = None
    ) -> tuple[Tensor, None]:
        """Attend within hidden states (batch, height, width, channels)."""
        batch, height, width, _ = hidden_states.shape
        heads = self.num_attention_heads
        qkv = self.qkv(hidden_states).view(batch, height * width, 3, heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (batch, heads, tokens, d)
        position = None
        if self.use_rel_pos:
            position = RelativePosition(self.rel_pos_h, self.rel_pos_w, height, width)
        attended = self.product(query, key, value, self.scale, position)
        attended = attended.transpose(1, 2).reshape(batch, height, width, -1)
        return self.proj(attended), None


def quantized_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function for transformers' registry; `module.product` does the work."""
    if attention_mask is not None:
        raise ValueError("Quantized attention has no attention mask (attention_similarity).")
    return module.product(query, key, value, scaling).transpose(1, 2), None


def _attend_integers(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    relative_position: RelativePosition | None,
    grids: OperandGrids,
) -> Tensor:
    if on_kernels.usable(query) and (relative_position is None or relative_position.square):
        tables = None if relative_position is None else relative_position.tables
        attended = on_kernels.attention(query, key, value, scaling, tables, grids)
        if attended is not None:
            return attended
    shape = (max(len(query), len(key)), *query.shape[1:])
    query, key, value = (
        grid.steps(operand).expand(shape[0], -1, -1, -1).flatten(0, 1)
        for grid, operand in ((grids.query, query), (grids.key, key), (grids.value, value))
    )  # (batch * heads, tokens, d)
    positions = None
    if relative_position is not None:
        positions = integer_attention.position_scores(
            query.unflatten(1, (relative_position.height, relative_position.width)),
            relative_position.rows,
            relative_position.columns,
            grids.position_unit,
        )
    return integer_attention.attend(query, key, value, scaling, grids, positions).view(shape)


AttentionInterface.register(INTERFACE, quantized_attention)
