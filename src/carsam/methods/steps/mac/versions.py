"""What some weights of an attention's projections make of its operands, in float and rounded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.grids.base import Grid
from carsam.grids.observers import Statistics
from carsam.methods.steps.mac.samples import Inputs
from carsam.simulation.attention import rounding_of_probabilities, scores_of, softmax

Weights = Mapping[str, tuple[Tensor, Tensor | None]]
"""Weight (h * d, channels) and bias (h * d) of each projection, by the operand it makes."""


@dataclass(frozen=True)
class Projections:
    """The three projections of an attention.

    Args:
        weights: in float.
        heads: h.
        scaling: of the scores.
    """

    weights: Weights
    heads: int
    scaling: float

    def operand(self, name: str, inputs: Inputs, grid: Grid | None = None) -> Tensor:
        """Return an operand (batch, h, tokens, d), on a grid if there is one."""
        projected = F.linear(inputs[name], *self.weights[name])
        if grid is not None:
            projected = grid.soft(projected, torch.ones_like(grid.scale))
        return projected.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def probabilities(self, inputs: Inputs, rows: Tensor | None = None) -> Tensor:
        """Return A (batch, h, queries, keys), or some rows of it."""
        if rows is not None:
            inputs = {**inputs, "query": inputs["query"][:, rows]}
        return self.softmax(*(self.operand(name, inputs) for name in ("query", "key")))

    def attended(self, inputs: Inputs) -> Tensor:
        """Return A V (batch, h, queries, d)."""
        return self.probabilities(inputs) @ self.operand("value", inputs)

    def softmax(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the A of a query and a key."""
        return softmax(scores_of(query, key, self.scaling))


@dataclass(frozen=True)
class Version:
    """Projections, and the quantized attention that is made of them.

    Args:
        exact: in float.
        rounded: as they are met in the quantized attention.
        grids: of the four operands.
        statistics: of the operands that the change of a weight changed.
    """

    exact: Projections
    rounded: Projections
    grids: Mapping[str, Grid]
    statistics: Mapping[str, Statistics]

    def quantized(self, operand: str, inputs: Inputs) -> Tensor:
        """Return an operand (batch, h, tokens, d) on its grid."""
        return self.rounded.operand(operand, inputs, self.grids[operand])

    def unrounded_probabilities(self, inputs: Inputs) -> Tensor:
        """Return what is rounded to A^."""
        return self.rounded.softmax(*(self.quantized(name, inputs) for name in ("query", "key")))

    def quantized_probabilities(self, inputs: Inputs) -> Tensor:
        """Return A^ (batch, h, queries, keys)."""
        return self._rounding(self.unrounded_probabilities(inputs))

    def attended(self, inputs: Inputs) -> Tensor:
        """Return A^ V^ (batch, h, queries, d)."""
        return self.quantized_probabilities(inputs) @ self.quantized("value", inputs)

    @cached_property
    def _rounding(self) -> Callable[[Tensor], Tensor]:
        return rounding_of_probabilities(self.grids["probabilities"])
