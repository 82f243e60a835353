"""Attention of SAM 2's two-way transformer."""

from typing import Any

from torch import Tensor, nn

from carsam.simulation.attention import AttentionProduct


class TwoWayAttention(nn.Module):
    """Takes the place of transformers' attention of SAM 2's decoder.

    The original folds keys and values as if they had the queries' batch. Image tokens that all
    prompts share, and that are kept once, it would mix up without an error. It holds the original's
    layers under the original's names.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        original: Any = attention
        self.q_proj, self.k_proj, self.v_proj = original.q_proj, original.k_proj, original.v_proj
        self.o_proj = original.o_proj
        self.num_attention_heads, self.scaling = original.num_attention_heads, original.scaling
        self.product = AttentionProduct()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **_: Any) -> tuple[Tensor, None]:
        """Attend from queries (B, P, N, C) to keys and values (B', P', K, C).

        B P and B' P' are equal, or the latter is 1 for keys that all queries share, or the former
        for queries that all keys do.
        """
        shared = query.shape[1]
        inputs = zip((self.q_proj, self.k_proj, self.v_proj), (query, key, value), strict=True)
        query, key, value = (self._by_head(project(tokens)) for project, tokens in inputs)
        attended = self.product(query, key, value, self.scaling).transpose(1, 2).flatten(2)
        return self.o_proj(attended.unflatten(0, (-1, shared))), None

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(B, P, N, C) to (B P, heads, N, C / heads)."""
        heads = tokens.flatten(0, 1).unflatten(-1, (self.num_attention_heads, -1))
        return heads.transpose(1, 2)
