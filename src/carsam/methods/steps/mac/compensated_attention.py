"""One attention while its projections are being compensated (MAC)."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.families.base import Site
from carsam.grids.base import Grid, UniformGrid
from carsam.grids.observers import NEED_HISTOGRAM, Observer, Statistics, activation_grid
from carsam.methods.base import Unit
from carsam.methods.steps.mac.equations import MatrixEquation, RidgeEquation, product_energy
from carsam.methods.steps.mac.samples import AttentionSamples
from carsam.methods.steps.softmax.adaptive_granularity import AdaptiveGranularity
from carsam.methods.steps.softmax.row_maximum_softmax import RowMaximumSoftmax
from carsam.methods.steps.softmax.searched_softmax import SearchedSoftmax
from carsam.simulation import slots
from carsam.simulation.attention import OPERANDS, rounded_probabilities
from carsam.simulation.stored import as_stored

ROWS_COMPARED = 256

SOFTMAX_STEPS: dict[str, SearchedSoftmax | None] = {
    "uniform": None,
    "row-maximum": RowMaximumSoftmax(),
    "logarithmic": AdaptiveGranularity(granularities="2"),
}
"""The step that offers the candidates for the probabilities; the observer finds a uniform grid."""

BIAS_COLUMN = 10.0  # beside the inputs, in place of 1: penalises a bias 100 times less

Weights = dict[str, tuple[Tensor, Tensor | None]]
"""Weight (h * d, channels) and bias (h * d) of each projection, by the operand it makes."""
Inputs = Mapping[str, Tensor]
"""Inputs of the projections for one image: (batch, tokens, channels) by operand."""


class CompensatedAttention:
    """Weights and grids of one attention; the model itself is changed by `write_` only.

    Targets always come from the weights that the attention had at first.

    Args:
        unit: whose weights are still float.
        site: of the attention.
        bits: of its operands.
        observer: of `ACTIVATION_OBSERVERS`, finds the grids.
        softmax: of `SOFTMAX_STEPS`, the kind of grid of the probabilities.
        centre: whether scores count only up to a constant per query.
        gigabytes: memory for remembered inputs.
    """

    def __init__(
        self,
        unit: Unit,
        site: Site,
        bits: int,
        observer: str,
        softmax: str,
        centre: bool,
        gigabytes: float,
    ) -> None:
        self.site, self.bits, self.observer, self.centre = site, bits, observer, centre
        self.softmax = softmax
        self._samples = AttentionSamples(unit, site, gigabytes)
        layers = slots.projections(unit.model, site)
        self._original: Weights = {
            operand: (module.layer.weight, module.layer.bias) for operand, module in layers.items()
        }
        self._weights = dict(self._original)
        rounded = {each.path for each, bits in unit.sites if bits.weights is not None}
        assert site.attention is not None
        self._stored_half = {
            operand
            for operand, path in zip(layers, site.attention.projections, strict=True)
            if path not in rounded
        }
        self._grids: dict[str, Grid] = {
            operand: self._grid(unit.statistics[site.path, operand]) for operand in OPERANDS
        }
        self._first_probabilities = unit.statistics[site.path, "probabilities"]
        self._statistics: dict[str, Statistics] = {}  # of changed operands

    def channels(self, operand: str) -> int:
        """How many channels enter an operand's projection."""
        return self._original[operand][0].shape[1]

    def score_equation(self, operand: str) -> MatrixEquation:
        """Return the equation of the change of `query` or `key` that undoes the other's rounding.

        Its solution (h, channels or with the bias one more, d) is relative to the original weights.
        """
        other = "key" if operand == "query" else "query"
        equations = []
        for inputs in self._samples:
            left = self._project(operand, inputs, self._original)
            right = self._project(other, inputs, self._original)
            quantized = self._quantized(other, inputs)
            rows = inputs[operand].double()
            if self.centre and operand == "key":  # a key's bias shifts all scores of a query alike
                rows, left = _centred(rows), _centred(left)
            else:
                rows = self._with_bias(operand, rows)
            if self.centre and other == "key":
                right, quantized = _centred(right), _centred(quantized)
            equations.append(MatrixEquation.from_operands(rows, left, right, quantized))
        return MatrixEquation.joined(equations)

    def value_equation(self) -> RidgeEquation:
        """Return the equation of the change of the values that undoes the probabilities' rounding.

        Ridge regression per head: min ||A V - A^ (V + Y D)||^2 + penalty ||D||^2, where rounded
        rows of A^ need not sum to 1: the bias column is their sums.
        """
        grams, right_sides = [], []
        for inputs in self._samples:
            values = self._project("value", inputs, self._original).double()
            quantized = self._quantized_probabilities(inputs).double()
            target = self._probabilities(inputs, self._original).double() @ values
            error = target - quantized @ values  # (batch, h, queries, d)
            rows = self._with_bias("value", inputs["value"].double())
            if quantized.shape[3] <= quantized.shape[2]:  # few keys: A^ Y would be large
                rows = rows[:, None]
                grams.append((rows.mT @ (quantized.mT @ quantized) @ rows).sum(0))
                right_sides.append((rows.mT @ (quantized.mT @ error)).sum(0))
            else:
                attended = quantized.flatten(1, 2) @ rows  # all heads at once
                attended = attended.view(*quantized.shape[:3], -1)  # (batch, h, queries, n)
                grams.append((attended.mT @ attended).sum(0))
                right_sides.append((attended.mT @ error).sum(0))
        return RidgeEquation(torch.stack(grams), torch.stack(right_sides))

    def try_(self, operand: str, change: Tensor) -> dict[str, Any]:
        """Apply a change if the true error falls, with the operand on a new grid.

        Returns:
            Projection, relative errors before and after (None for weights beyond what can be
            stored), and whether the change stays.
        """
        measure = self._value_error if operand == "value" else self._score_error
        weights, grid = self._weights[operand], self._grids[operand]
        before = measure()
        changed = self._changed(operand, change)
        if not all(bool(part.isfinite().all()) for part in changed if part is not None):
            return {"projection": operand, "before": before, "after": None, "accepted": False}
        self._weights[operand] = changed
        statistics = self._observed(operand)
        self._grids[operand] = self._grid(statistics)
        after = measure()
        accepted = after < before
        if accepted:
            self._statistics[operand] = statistics
        else:
            self._weights[operand], self._grids[operand] = weights, grid
        return {"projection": operand, "before": before, "after": after, "accepted": accepted}

    def refit_probability_grid_(self) -> None:
        """Give the probabilities the grid that fits the queries and keys as they are now."""
        if self._statistics:
            statistics = self._observed("probabilities")
            self._statistics["probabilities"] = statistics
            self._grids["probabilities"] = self._grid(statistics)
        step = SOFTMAX_STEPS[self.softmax]
        if step is not None:
            statistics = self._statistics.get("probabilities", self._first_probabilities)
            device = self._original["query"][0].device
            candidates = step.candidates(statistics, self.bits, device)
            self._grids["probabilities"] = self._best_for_values([grid for grid, _ in candidates])

    def forget_inputs(self) -> None:
        """Free the inputs' memory, once all projections have been tried."""
        self._samples.forget()

    @torch.no_grad()
    def write_(self, unit: Unit) -> None:
        """Write the accepted changes into the model, and the unit's statistics."""
        for operand, module in slots.projections(unit.model, self.site).items():
            weight, bias = self._weights[operand]
            module.layer.weight.copy_(weight)
            if bias is not None and module.layer.bias is not None:
                module.layer.bias.copy_(bias)
        for operand, statistics in self._statistics.items():
            unit.statistics[self.site.path, operand] = statistics

    def _score_error(self) -> float:
        """Return ||Q K' - Q^ K^'||^2 over all samples, relative to ||Q K'||^2."""
        error = energy = 0.0
        for inputs in self._samples:
            query, key = (self._project(o, inputs, self._original) for o in ("query", "key"))
            rounded_query, rounded_key = (self._quantized(o, inputs) for o in ("query", "key"))
            if self.centre:
                key, rounded_key = _centred(key), _centred(rounded_key)
            left = torch.cat([query, -rounded_query], -1)  # (batch, h, queries, 2 d)
            error += float(product_energy(left, torch.cat([key, rounded_key], -1)))
            energy += float(product_energy(query, key))
        return error / energy if energy > 0 else error

    def _value_error(self) -> float:
        """Return ||A V - A^ V^||^2 over all samples, relative to ||A V||^2."""
        error = energy = 0.0
        for inputs in self._samples:
            values = self._project("value", inputs, self._original)
            target = self._probabilities(inputs, self._original) @ values
            rounded = self._quantized_probabilities(inputs) @ self._quantized("value", inputs)
            error += float((target - rounded).double().square().sum())
            energy += float(target.double().square().sum())
        return error / energy if energy > 0 else error

    def _project(self, operand: str, inputs: Inputs, weights: Weights) -> Tensor:
        """Return (batch, h, tokens, d)."""
        projected = F.linear(inputs[operand], *weights[operand])
        return projected.unflatten(2, (self._samples.heads, -1)).transpose(1, 2)

    def _quantized(self, operand: str, inputs: Inputs) -> Tensor:
        rounded: Tensor = self._grids[operand](self._project(operand, inputs, self._weights))
        return rounded

    def _probabilities(self, inputs: Inputs, weights: Weights) -> Tensor:
        """Return the float A (batch, h, queries, keys)."""
        query, key = (self._project(operand, inputs, weights) for operand in ("query", "key"))
        return torch.softmax(query @ key.mT * self._samples.scaling, dim=-1)

    def _unrounded_probabilities(self, inputs: Inputs) -> Tensor:
        query, key = (self._quantized(operand, inputs) for operand in ("query", "key"))
        return torch.softmax(query @ key.mT * self._samples.scaling, dim=-1)

    def _quantized_probabilities(self, inputs: Inputs) -> Tensor:
        unrounded = self._unrounded_probabilities(inputs)
        return rounded_probabilities(self._grids["probabilities"], unrounded)

    def _with_bias(self, operand: str, rows: Tensor) -> Tensor:
        """Return the inputs with the bias's column, if there is a bias to change."""
        if self._original[operand][1] is None:
            return rows
        return F.pad(rows, (0, 1), value=BIAS_COLUMN)

    def _changed(self, operand: str, change: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the original weight and bias with a change (h, columns, d)."""
        weight, bias = self._original[operand]
        channels = weight.shape[1]
        rows = change.transpose(1, 2).flatten(0, 1)  # (h * d, columns)
        weight = (weight + rows[:, :channels]).float()
        if operand in self._stored_half:
            weight = as_stored(weight)
        if bias is not None and rows.shape[1] > channels:
            bias = as_stored(bias + BIAS_COLUMN * rows[:, channels])
        return weight, bias

    def _observed(self, operand: str) -> Statistics:
        """Return the statistics of an operand under the present weights."""
        observer = Observer(self.site.path, operand, self.observer in NEED_HISTOGRAM)
        for values in self._values(operand):
            observer(values)
            observer.end_image()
        return observer.statistics

    def _values(self, operand: str) -> Iterator[Tensor]:
        """Yield what the operand's quantizer sees, image by image."""
        for inputs in self._samples:
            if operand == "probabilities":
                yield self._unrounded_probabilities(inputs)
            else:
                yield self._project(operand, inputs, self._weights)

    def _best_for_values(self, grids: list[Grid]) -> Grid:
        """Return the grid with the least ||A^ V - A V||^2, as the step that sets it finds it."""
        errors = [0.0] * len(grids)
        for inputs in self._samples:
            values = self._project("value", inputs, self._weights)
            rows = self._probabilities(inputs, self._weights)
            rows = rows[:, :, :: -(-rows.shape[2] // ROWS_COMPARED)]
            for index, grid in enumerate(grids):
                error = (rounded_probabilities(grid, rows) - rows) @ values
                errors[index] += float(error.square().sum())
        return grids[errors.index(min(errors))]

    def _grid(self, statistics: Statistics) -> UniformGrid:
        device = self._original["query"][0].device
        return activation_grid(statistics, self.observer, self.bits, device)


def _centred(tokens: Tensor) -> Tensor:
    """Subtract the mean over the tokens (..., tokens, channels)."""
    return tokens - tokens.mean(-2, keepdim=True)
