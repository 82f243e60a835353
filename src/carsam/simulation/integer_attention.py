"""Attention of codes, with the bits of `carsam.runtime.reference_attention`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from carsam.grids.base import UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.row_maximum import TOP, RowMaximumGrid
from carsam.grids.tables import TableGrid
from carsam.runtime.functions import LOG2_E
from carsam.simulation.arithmetic import ELEMENTS_AT_ONCE, exact_type, exp2_, lane_sum


@dataclass(frozen=True)
class OperandGrids:
    """The grids of an attention's four operands."""

    query: UniformGrid | CodebookGrid
    key: UniformGrid | CodebookGrid
    probabilities: UniformGrid | RowMaximumGrid | TableGrid
    value: UniformGrid | CodebookGrid

    def score_unit(self, scaling: float) -> float:
        """What an integer score is worth, in units of log 2: softmax is then a power of two."""
        return self.query.scale.item() * self.key.scale.item() * (scaling * LOG2_E)

    @property
    def position_unit(self) -> float:
        """What a product of an integer query and a float position is worth."""
        return self.query.scale.item() * LOG2_E

    def score_type(self, head_dim: int) -> torch.dtype:
        """A type that holds all sums over a head's channels."""
        return exact_type(head_dim * self.query.largest_step * self.key.largest_step)

    def output_type(self, keys: int) -> torch.dtype:
        """A type in which sums over the keys are exact, or of listed values nearly so."""
        if isinstance(self.probabilities, RowMaximumGrid):
            return exact_type(keys * TOP * self.value.largest_step)
        if isinstance(self.probabilities, TableGrid):
            return torch.float64
        most = keys * self.probabilities.largest_step
        if not self.probabilities.zero_point.any():
            # A rounded probability is at most twice what it was, and together they were 1.
            most = min(most, 2 / self.probabilities.scale.item() + 1)
        return exact_type(most * self.value.largest_step)

    def rounded(self, logits: Tensor, line: int) -> tuple[Tensor, float | Tensor]:
        """Return probabilities to multiply, and what their products with integer values are worth.

        They are integers or, where the grid lists its values, those.

        Args:
            logits: (..., queries, keys) float32, in units of log 2; they are overwritten.
            line: keys per row of the image; all without relative positions.
        """
        if isinstance(self.probabilities, RowMaximumGrid):
            numerators = self.probabilities.numerators_of_logits(logits)
            return numerators, self.value.scale / numerators.sum(-1, keepdim=True)
        powers = exp2_(logits.sub_(logits.amax(-1, keepdim=True)))
        total = lane_sum(powers.view(-1, powers.shape[-1] // line, line))
        total = total.view(*powers.shape[:-1], 1)
        if isinstance(self.probabilities, TableGrid):
            return self.probabilities(powers * (1.0 / total)), self.value.scale
        steps = self.probabilities.steps(powers, total)
        return steps, self.probabilities.scale.item() * self.value.scale.item()


@dataclass(frozen=True)
class PositionScores:
    """What decomposed relative positions add to the scores, in units of log 2.

    Args:
        by_row, by_column: (batch * heads, queries, rows or columns of keys).
    """

    by_row: Tensor
    by_column: Tensor

    def of(self, heads: slice, queries: slice) -> Tensor:
        """The sum of both for some queries of some heads: (heads, queries, keys)."""
        by_row, by_column = self.by_row[heads, queries], self.by_column[heads, queries]
        return (by_row[..., None] + by_column[..., None, :]).flatten(2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    grids: OperandGrids,
    positions: PositionScores | None,
) -> Tensor:
    """Return the attended values (batch * heads, queries, d).

    Args:
        query: (batch * heads, queries, d) steps on its grid.
        key, value: (batch * heads, keys, d) steps.
    """
    result = torch.empty_like(query)
    (count, queries, head_dim), keys = query.shape, key.shape[1]
    heads_at_once = max(1, ELEMENTS_AT_ONCE // (queries * keys))
    queries_at_once = max(1, ELEMENTS_AT_ONCE // keys)
    score_type, output_type = grids.score_type(head_dim), grids.output_type(keys)
    key, value = key.to(score_type).mT, value.to(output_type)
    line = keys if positions is None else positions.by_column.shape[2]
    for first in range(0, count, heads_at_once):
        heads = slice(first, first + heads_at_once)
        for start in range(0, queries, queries_at_once):
            rows = slice(start, start + queries_at_once)
            scores = torch.matmul(query[heads, rows].to(score_type), key[heads]).float()
            logits = scores.mul_(grids.score_unit(scaling))
            if positions is not None:
                logits.add_(positions.of(heads, rows))
            rounded, unit = grids.rounded(logits, line)
            total = torch.matmul(rounded.to(output_type), value[heads]).float()
            result[heads, rows] = total.mul_(unit)
    return result


def position_scores(query: Tensor, rows: Tensor, columns: Tensor, unit: float) -> PositionScores:
    """Return the scores of relative positions.

    Args:
        query: (batch * heads, height, width, d) steps.
        rows: (height, height, d) position of every query row and key row.
        columns: (width, width, d).
        unit: what a step of the query is worth.
    """
    by_row = _position_products(query.permute(1, 3, 0, 2), rows)  # (h, keys, heads, w)
    by_column = _position_products(query.permute(2, 3, 0, 1), columns)  # (w, keys, heads, h)
    return PositionScores(
        by_row.mul_(unit).permute(2, 0, 3, 1).flatten(1, 2).contiguous(),
        by_column.mul_(unit).permute(2, 3, 0, 1).flatten(1, 2).contiguous(),
    )


def _position_products(query: Tensor, table: Tensor) -> Tensor:
    """Sum query (lines, d, heads, others) times table (lines, keys, d) in the order of channels.

    The products are not integers, so the order of the sum matters: it is the native engine's.

    Returns:
        (lines, keys, heads, others)
    """
    lines, _, *others = query.shape
    query = query.flatten(2)  # (lines, d, heads * others)
    result = query.new_zeros(lines, table.shape[1], query.shape[2])
    at_once = max(1, ELEMENTS_AT_ONCE // result[0].numel())
    for first in range(0, lines, at_once):
        part = slice(first, first + at_once)
        for numbers, weights in zip(query[part].unbind(1), table[part].unbind(2), strict=True):
            result[part] += numbers[:, None] * weights[:, :, None]
    return result.view(lines, table.shape[1], *others)
