"""One attention while its projections are being compensated (MAC)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from carsam.families.base import Site, State
from carsam.grids.base import Grid
from carsam.grids.observers import Observer, Statistics
from carsam.methods.base import Unit
from carsam.methods.steps.mac.later_grids import LaterGrids
from carsam.methods.steps.mac.samples import AttentionSamples, Inputs, boxes_at_once, by_boxes
from carsam.methods.steps.mac.versions import Projections, Version
from carsam.simulation import slots
from carsam.simulation.attention import OPERANDS
from carsam.simulation.stored import as_stored

BIAS_COLUMN = 10.0  # beside the inputs, in place of 1: penalises a bias 100 times less


class CompensatedAttention:
    """Weights and grids of one attention; the model itself is changed by `write_` only.

    Targets always come from the weights that the attention had at first, and from float inputs.

    Args:
        unit: whose weights are still float.
        site: of the attention.
        bits: of its operands.
        asymmetric: whether the quantized attention is the one of the quantized path, with rounded
            inputs and weights, or one with rounded operands only.
        gigabytes: memory for what is remembered.

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
        projections = Projections(weights, self._samples.heads, self._samples.scaling)
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
        self.first = self.now = self._with_probability_grid(projections, grids, {})
        self._kept_targets: Sequence[State] = ()
        targets = [(each["attended"].nbytes, _energy(each["attended"])) for each in self._targets()]
        self._energy = sum(energy for _, energy in targets)
        if self._samples.has_room(sum(size for size, _ in targets)):
            self._kept_targets = unit.keep(self._targets())
        self._error_now: float | None = None

    def __iter__(self) -> Iterator[Iterator[tuple[Inputs, Inputs]]]:
        """Yield for each image the projections' inputs, in float and in the quantized attention.

        They come in parts of as many boxes as fit a processor's cache.
        """
        for exact, actual in self._images():
            at_once = boxes_at_once(exact)
            yield zip(by_boxes(exact, at_once), by_boxes(actual, at_once), strict=True)

    def try_(self, operand: str, change: Tensor) -> dict[str, Any]:
        """Apply a change if the error of what leaves the attention falls, on new grids.

        Args:
            change: of the original weight and bias (h, columns, d).

        Returns:
            Projection, ||A V - A^ V^||^2 before and after over all samples, relative to
            ||A V||^2 (None for weights beyond what can be stored), and whether the change stays.
        """
        if self._error_now is None:
            self._error_now = self._error(self.now)
        before = self._error_now
        changed = self._changed(operand, change)
        if not all(bool(part.isfinite().all()) for part in changed if part is not None):
            return {"projection": operand, "before": before, "after": None, "accepted": False}
        tried = self._version(operand, changed)
        after = self._error(tried)
        if after < before:
            self.now, self._error_now = tried, after
        return {
            "projection": operand,
            "before": before,
            "after": after,
            "accepted": after < before,
        }

    def forget(self) -> None:
        """Free the memory of inputs and targets, once all projections have been tried."""
        self._samples.forget()
        self._path.forget()
        self._kept_targets = ()

    @torch.no_grad()
    def write_(self, unit: Unit) -> None:
        """Write the accepted changes into the model, and the unit's statistics."""
        for operand, module in slots.projections(unit.model, self._site).items():
            weight, bias = self.now.exact.weights[operand]
            module.layer.weight.copy_(weight)
            if bias is not None and module.layer.bias is not None:
                module.layer.bias.copy_(bias)
        for operand, statistics in self.now.statistics.items():
            unit.statistics[self._site.path, operand] = statistics

    def _images(self) -> Iterator[tuple[Inputs, Inputs]]:
        if not self.asymmetric:
            yield from ((inputs, inputs) for inputs in self._samples)
            return
        for exact, path in zip(self._samples, self._path, strict=True):
            rounded = {operand: grid(path[operand]) for operand, grid in self._input_grids.items()}
            yield exact, {**path, **rounded}

    def _targets(self) -> Iterator[State]:
        """Yield A V of each image, in float, as the state entry `attended`."""
        if self._kept_targets:
            yield from self._kept_targets
            return
        for image in self:
            parts = [self.first.exact.attended(exact) for exact, _ in image]
            yield {"attended": torch.cat(parts)}

    def _version(self, operand: str, changed: tuple[Tensor, Tensor | None]) -> Version:
        """Return the present version with another projection, and the grids that go with it."""
        weights = {**self.now.exact.weights, operand: changed}
        exact = replace(self.now.exact, weights=weights)
        statistics = dict(self.now.statistics)
        statistics[operand] = self._observed(operand, lambda i, _: exact.operand(operand, i))
        grids = {**self.now.grids, operand: self._grid(operand, statistics[operand])}
        if operand != "value":
            version = Version(exact, self._rounded(exact), grids, statistics)
            statistics["probabilities"] = self._observed(
                "probabilities", lambda _, actual: version.unrounded_probabilities(actual)
            )
        return self._with_probability_grid(exact, grids, statistics)

    def _with_probability_grid(
        self, exact: Projections, grids: Mapping[str, Grid], statistics: Mapping[str, Statistics]
    ) -> Version:
        known = statistics.get("probabilities", self._first_statistics["probabilities"])
        images = (inputs for inputs, _ in self._images())
        grid = self._later.of_probabilities(self._site, known, self._bits, exact, images)
        grids = {**grids, "probabilities": grid}
        return Version(exact, self._rounded(exact), grids, statistics)

    def _rounded(self, exact: Projections) -> Projections:
        if not self.asymmetric:
            return exact
        weights = {
            operand: (self._later.rounded_weight(weight, self._weight_bits[operand]), bias)
            for operand, (weight, bias) in exact.weights.items()
        }
        return replace(exact, weights=weights)

    def _error(self, version: Version) -> float:
        """Return ||A V - A^ V^||^2 over all samples, relative to ||A V||^2."""
        error = 0.0
        for image, target in zip(self, self._targets(), strict=True):
            done = 0
            for _, actual in image:
                attended = version.attended(actual)
                error += _energy(target["attended"][done : done + len(attended)] - attended)
                done += len(attended)
        return error / self._energy if self._energy > 0 else error

    def _changed(self, operand: str, change: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the original weight and bias with a change (h, columns, d)."""
        weight, bias = self.first.exact.weights[operand]
        channels = weight.shape[1]
        rows = change.transpose(1, 2).flatten(0, 1)  # (h * d, columns)
        weight = (weight + rows[:, :channels]).float()
        if self._weight_bits[operand] is None:
            weight = as_stored(weight)
        if bias is not None and rows.shape[1] > channels:
            bias = as_stored(bias + BIAS_COLUMN * rows[:, channels])
        return weight, bias

    def _observed(self, operand: str, values: Callable[[Inputs, Inputs], Tensor]) -> Statistics:
        """Return an operand's statistics.

        Args:
            values: function of inputs, in float and in the quantized attention.
        """
        counts = self._later.ranges.reads_histogram(self._site, operand)
        observer = Observer(self._site.path, operand, counts)
        for image in self:
            for part in image:
                observer(values(*part))
            observer.end_image()
        return observer.statistics

    def _grid(self, operand: str, statistics: Statistics) -> Grid:
        return self._later.of_operand(self._site, operand, statistics, self._bits)


def _energy(values: Tensor) -> float:
    return float(values.double().square().sum())
