"""The parts of JCAR's joint unit, which are its stages, and how they train by themselves."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from carsam.families.base import sites_of_stages
from carsam.grids.base import UniformGrid
from carsam.methods.base import Unit
from carsam.methods.inspecting.operands import in_float
from carsam.methods.units import UnitPlan
from carsam.simulation import slots
from carsam.simulation.layers import QuantizedLayer, weight_to_rows

DECIDED = 0.75
"""How far a weight's joint training starts from its float value to where its part rounded it."""


def part_of_weights(unit: Unit) -> list[int]:
    """Return the number of its part for every weight of a unit that has a grid."""
    return [number for number, part in enumerate(parts(unit)) for _ in _layers(unit, part)]


def parts(unit: Unit) -> list[UnitPlan]:
    """Return every stage of a unit as a unit of its own."""
    bits = dict(unit.sites)
    members = sites_of_stages(unit.plan.stages, tuple(bits))
    return [UnitPlan((s,), tuple((site, bits[site]) for site in sites)) for s, sites in members]


def train_parts_(unit: Unit, train: Callable[[Unit], object]) -> list[Tensor]:
    """Train the parts one after the other, each with inputs from the rounded ones before it.

    Args:
        unit: with grids and float weights; it ends as its parts leave it.
        train: trains a unit and leaves it rounded.

    Returns:
        Where the unit's training is to start: for every weight that has a grid the shares (rows,
        columns) of a step by which it is rounded up.
    """
    inputs, quantized = unit.inputs, unit.quantized_inputs
    starts: list[Tensor] = []
    for part in parts(unit):
        with in_float(unit):
            targets = [part.run(unit.model, state) for state in inputs]
        layers = _layers(unit, part)
        before = [_steps(layer) for layer in layers]
        train(replace(unit, plan=part, inputs=inputs, quantized_inputs=quantized, targets=targets))
        quantized = [part.run(unit.model, state) for state in quantized]
        inputs = targets
        for layer, steps in zip(layers, before, strict=True):
            rounded_up = (_steps(layer) - steps.floor()).clamp(0.0, 1.0)
            starts.append(torch.lerp(steps - steps.floor(), rounded_up, DECIDED))
    return starts


def _steps(layer: QuantizedLayer) -> Tensor:
    """Return a weight's rows in steps of its grid."""
    rows = weight_to_rows(layer.layer, layer.layer.weight.detach())
    return rows / cast(UniformGrid, layer.weight_grid).scale


def _layers(unit: Unit, part: UnitPlan) -> list[QuantizedLayer]:
    """Return the layers of a part whose weights have grids, in the order of its sites."""
    layers = (slots.weight_layer(unit.model, site) for site, _ in part.sites)
    return [layer for layer in layers if layer is not None and layer.weight_grid is not None]
