"""One attention while its projections are being compensated (MAC)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.families.base import Site
from carsam.grids.base import Grid
from carsam.grids.observers import Observer, Statistics
from carsam.methods.base import Unit
from carsam.methods.steps.mac.later_grids import LaterGrids
from carsam.methods.steps.mac.samples import AttentionSamples, Inputs
from carsam.simulation import slots
from carsam.simulation.attention import OPERANDS, rounded_probabilities
from carsam.simulation.stored import as_stored

BIAS_COLUMN = 10.0  # beside the inputs, in place of 1: penalises a bias 100 times less

Weights = Mapping[str, tuple[Tensor, Tensor | None]]
"""Weight (h * d, channels) and bias (h * d) of each projection, by the operand it makes."""


@dataclass(frozen=True)
class Version:
    """Weights of the projections, and what they make of the operands.

    Args:
        weights: of the three projections, in float.
        rounded: the same as they are met in the quantized attention.
        grids: of the four operands.
        statistics: of the operands that the change of a weight changed.
    """

    weights: Weights
    rounded: Weights
    grids: Mapping[str, Grid]
    statistics: Mapping[str, Statistics]


class CompensatedAttention:
    """Weights and grids of one attention; the model itself is changed by `write_` only.

    Targets always come from the weights that the attention had at first, and from float inputs.

    Args:
        unit: whose weights are still float.
        site: of the attention.
        bits: of its operands.
        asymmetric: whether the quantized attention is the one of the quantized path, with rounded
            inputs and weights, or one with rounded operands only.
        gigabytes: memory for remembered inputs.

    Attributes:
        first: the version at first.
        now: the one with the changes accepted so far.
    """

    def __init__(
        self, unit: Unit, site: Site, bits: int, asymmetric: bool, gigabytes: float
    ) -> None:
        self._site, self._bits, self.asymmetric = site, bits, asymmetric
        self._later = LaterGrids.of(unit)
        room = gigabytes / 2 if asymmetric else gigabytes
        self._samples = AttentionSamples(unit, site, unit.inputs, room)
        self._path = self._samples
        if asymmetric:
            self._path = AttentionSamples(unit, site, unit.quantized_inputs, room)
        layers = slots.projections(unit.model, site)
        weights = {
            operand: (module.layer.weight, module.layer.bias) for operand, module in layers.items()
        }
        self._first_statistics = {o: unit.statistics[site.path, o] for o in OPERANDS}
        assert site.attention is not None
        wanted = {each.path: (each, bits) for each, bits in unit.sites}
        self._weight_bits: dict[str, int | None] = {}
        self._input_grids: dict[str, Grid] = {}
        for operand, path in zip(layers, site.attention.projections, strict=True):
            self._weight_bits[operand] = None
            if path in wanted:
                layer, layer_bits = wanted[path]
                self._weight_bits[operand] = layer_bits.weights
                if asymmetric and layer_bits.activations is not None:
                    self._input_grids[operand] = self._later.of_operand(
                        layer, "input", unit.statistics[path, "input"], layer_bits.activations
                    )
        grids = {o: self._grid(o, self._first_statistics[o]) for o in layers}
        self.first = self.now = self._with_probability_grid(weights, grids, {})

    def __iter__(self) -> Iterator[tuple[Inputs, Inputs]]:
        """Yield the projections' inputs for each image, in float and in the quantized attention."""
        if not self.asymmetric:
            yield from ((inputs, inputs) for inputs in self._samples)
            return
        for exact, path in zip(self._samples, self._path, strict=True):
            rounded = {operand: grid(path[operand]) for operand, grid in self._input_grids.items()}
            yield exact, {**path, **rounded}

    def project(self, operand: str, inputs: Inputs, weights: Weights) -> Tensor:
        """Return (batch, h, tokens, d)."""
        projected = F.linear(inputs[operand], *weights[operand])
        return projected.unflatten(2, (self._samples.heads, -1)).transpose(1, 2)

    def quantized(self, operand: str, inputs: Inputs) -> Tensor:
        """Return an operand (batch, h, tokens, d) of the present version on its grid."""
        return self._quantized(operand, inputs, self.now)

    def probabilities(self, inputs: Inputs) -> Tensor:
        """Return the A (batch, h, queries, keys) of the original weights."""
        return self._probabilities(inputs, self.first.weights)

    def quantized_probabilities(self, inputs: Inputs) -> Tensor:
        """Return the A^ of the present version."""
        return self._quantized_probabilities(inputs, self.now)

    def try_(self, operand: str, change: Tensor) -> dict[str, Any]:
        """Apply a change if the error of what leaves the attention falls, on new grids.

        Args:
            change: of the original weight and bias (h, columns, d).

        Returns:
            Projection, ||A V - A^ V^||^2 before and after over all samples, relative to
            ||A V||^2 (None for weights beyond what can be stored), and whether the change stays.
        """
        before = self._error(self.now)
        changed = self._changed(operand, change)
        if not all(bool(part.isfinite().all()) for part in changed if part is not None):
            return {"projection": operand, "before": before, "after": None, "accepted": False}
        tried = self._version(operand, changed)
        after = self._error(tried)
        if after < before:
            self.now = tried
        return {
            "projection": operand,
            "before": before,
            "after": after,
            "accepted": after < before,
        }

    def forget_inputs(self) -> None:
        """Free the inputs' memory, once all projections have been tried."""
        self._samples.forget()
        self._path.forget()

    @torch.no_grad()
    def write_(self, unit: Unit) -> None:
        """Write the accepted changes into the model, and the unit's statistics."""
        for operand, module in slots.projections(unit.model, self._site).items():
            weight, bias = self.now.weights[operand]
            module.layer.weight.copy_(weight)
            if bias is not None and module.layer.bias is not None:
                module.layer.bias.copy_(bias)
        for operand, statistics in self.now.statistics.items():
            unit.statistics[self._site.path, operand] = statistics

    def _version(self, operand: str, changed: tuple[Tensor, Tensor | None]) -> Version:
        """Return the present version with another projection, and the grids that go with it."""
        weights = {**self.now.weights, operand: changed}
        statistics = dict(self.now.statistics)
        statistics[operand] = self._observed(
            operand, lambda exact, _: self.project(operand, exact, weights)
        )
        grids = {**self.now.grids, operand: self._grid(operand, statistics[operand])}
        if operand != "value":
            version = Version(weights, self._rounded(weights), grids, statistics)
            statistics["probabilities"] = self._observed(
                "probabilities", lambda _, actual: self._unrounded_probabilities(actual, version)
            )
        return self._with_probability_grid(weights, grids, statistics)

    def _with_probability_grid(
        self, weights: Weights, grids: Mapping[str, Grid], statistics: Mapping[str, Statistics]
    ) -> Version:
        known = statistics.get("probabilities", self._first_statistics["probabilities"])
        products = (
            (self._probabilities(exact, weights), self.project("value", exact, weights))
            for exact, _ in self
        )
        grid = self._later.of_probabilities(self._site, known, self._bits, products)
        grids = {**grids, "probabilities": grid}
        return Version(weights, self._rounded(weights), grids, statistics)

    def _rounded(self, weights: Weights) -> Weights:
        if not self.asymmetric:
            return weights
        return {
            operand: (self._later.rounded_weight(weight, self._weight_bits[operand]), bias)
            for operand, (weight, bias) in weights.items()
        }

    def _error(self, version: Version) -> float:
        """Return ||A V - A^ V^||^2 over all samples, relative to ||A V||^2."""
        error = energy = 0.0
        for exact, actual in self:
            target = self.probabilities(exact) @ self.project("value", exact, self.first.weights)
            rounded = self._quantized("value", actual, version)
            rounded = self._quantized_probabilities(actual, version) @ rounded
            error += float((target - rounded).double().square().sum())
            energy += float(target.double().square().sum())
        return error / energy if energy > 0 else error

    def _probabilities(self, inputs: Inputs, weights: Weights) -> Tensor:
        return self._softmax(*(self.project(o, inputs, weights) for o in ("query", "key")))

    def _quantized(self, operand: str, inputs: Inputs, version: Version) -> Tensor:
        rounded: Tensor = version.grids[operand](self.project(operand, inputs, version.rounded))
        return rounded

    def _unrounded_probabilities(self, inputs: Inputs, version: Version) -> Tensor:
        return self._softmax(*(self._quantized(o, inputs, version) for o in ("query", "key")))

    def _quantized_probabilities(self, inputs: Inputs, version: Version) -> Tensor:
        unrounded = self._unrounded_probabilities(inputs, version)
        return rounded_probabilities(version.grids["probabilities"], unrounded)

    def _softmax(self, query: Tensor, key: Tensor) -> Tensor:
        return torch.softmax(query @ key.mT * self._samples.scaling, dim=-1)

    def _changed(self, operand: str, change: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the original weight and bias with a change (h, columns, d)."""
        weight, bias = self.first.weights[operand]
        channels = weight.shape[1]
        rows = change.transpose(1, 2).flatten(0, 1)  # (h * d, columns)
        weight = (weight + rows[:, :channels]).float()
        if self._weight_bits[operand] is None:
            weight = as_stored(weight)
        if bias is not None and rows.shape[1] > channels:
            bias = as_stored(bias + BIAS_COLUMN * rows[:, channels])
        return weight, bias

    def _observed(self, operand: str, values: Any) -> Statistics:
        """Return an operand's statistics.

        Args:
            values: function of an image's two inputs.
        """
        counts = self._later.ranges.reads_histogram(self._site, operand)
        observer = Observer(self._site.path, operand, counts)
        for inputs in self:
            observer(values(*inputs))
            observer.end_image()
        return observer.statistics

    def _grid(self, operand: str, statistics: Statistics) -> Grid:
        return self._later.of_operand(self._site, operand, statistics, self._bits)
