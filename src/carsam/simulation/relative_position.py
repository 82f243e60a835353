"""Decomposed relative positions of attentions over an image's tokens."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class RelativePosition:
    """Decomposed relative positions of one attention over a height x width grid of tokens.

    Args:
        table_height, table_width: (2 * height - 1, d) and (2 * width - 1, d).
    """

    def __init__(self, table_height: Tensor, table_width: Tensor, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.tables = table_height, table_width
        self.rows = _relative_table(table_height, height)  # (height, height, d)
        self.columns = _relative_table(table_width, width)  # (width, width, d)

    @property
    def square(self) -> bool:
        """Whether the grid is a square that the tables are made for."""
        sizes = {(len(table) + 1) // 2 for table in self.tables}
        return sizes == {self.height} == {self.width}

    def add_(self, scores: Tensor, query: Tensor, rows: Tensor | None = None) -> Tensor:
        """Add the bias to scores (batch, heads, queries, keys), in place.

        Args:
            query: (batch, heads, height * width, d).
            rows: which of the queries the scores are of; None for all.
        """
        batch, heads, _, d = query.shape
        query = query.reshape(batch * heads, self.height, self.width, d)
        by_row = torch.einsum("bhwc,hkc->bhwk", query, self.rows)
        by_column = torch.einsum("bhwc,wkc->bhwk", query, self.columns)
        if rows is not None:
            by_row, by_column = (each.flatten(1, 2)[:, rows] for each in (by_row, by_column))
        return cast(Tensor, _WithPositions.apply(scores, by_row, by_column))


class _WithPositions(torch.autograd.Function):
    """Scores (batch, heads, queries, keys) plus those of keys' rows and columns, in place.

    As operations of autograd on a view, the sums would copy all scores five times.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
        ctx.mark_dirty(scores)
        ctx.shape = *by_row.shape, by_column.shape[-1]
        scores.view(ctx.shape).add_(by_row[..., None]).add_(by_column[..., None, :])
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        pairs = gradient.reshape(ctx.shape)
        return gradient, pairs.sum(-1), pairs.sum(-2)


def _relative_table(table: Tensor, size: int) -> Tensor:
    """Return (size, size, d): the table's row for every query and key coordinate."""
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode="linear")[0].T
    coordinates = torch.arange(size, device=table.device)
    return table[coordinates[:, None] - coordinates[None, :] + size - 1]
