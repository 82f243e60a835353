"""Second moments of what enters a layer, along the quantized and the float path."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from carsam.families.base import Site
from carsam.methods.base import Unit
from carsam.methods.inspecting.operands import in_float, value_at
from carsam.simulation import slots
from carsam.simulation.layers import Layer

NOISE = 1e-11
"""A variance that is no more than this share of the mean square is float32's rounding error."""


@dataclass(frozen=True)
class InputMoments:
    """Sums over the rows x of a layer's input, float x and quantized x^ of the same tokens.

    A row of a convolution is a patch, ordered like the weight's row.

    Args:
        quantized: sum of x^' x^, (K, K) in float64.
        shift: sum of (x - x^)' x^, (K, K).
        quantized_sum, shift_sum: sums of x^ and of x - x^, (K,).
        rows: how many.
    """

    quantized: Tensor
    shift: Tensor
    quantized_sum: Tensor
    shift_sum: Tensor
    rows: int


def input_moments(unit: Unit, site: Site, originals: dict[Site, Layer]) -> InputMoments:
    """Run the unit on every image, quantized as far as it is and in float, and compare inputs.

    Args:
        site: a linear or convolution.
        originals: the unit's layers before anything was changed (`float_layers`).
    """
    moments: Any = None
    for inputs, quantized in input_pairs(unit, site, originals):
        shift = inputs - quantized
        sums = (
            quantized.T @ quantized,
            shift.T @ quantized,
            quantized.sum(0),
            shift.sum(0),
            len(quantized),
        )
        moments = sums if moments is None else tuple(map(sum, zip(moments, sums, strict=True)))
    return InputMoments(*moments)


def input_gram(unit: Unit, site: Site) -> Tensor:
    """Return sum of x^' x^ over a layer's quantized input rows x^ on all images, (K, K) in float64.

    It is the `quantized` of `input_moments`, to the precision of float32 within an image, without
    running the unit in float.
    """
    layer = slots.layer(unit.model, site).layer
    total: Any = 0.0
    for state in unit.quantized_inputs:
        rows = _rows(layer, value_at(unit, (site, "input"), state))
        total = total + (rows.T @ rows).double()
    return cast(Tensor, total)


def input_pairs(
    unit: Unit, site: Site, originals: dict[Site, Layer]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, image by image, a layer's float and quantized input rows, (n, K) in float64."""
    layer = slots.layer(unit.model, site).layer
    for index in range(len(unit.inputs)):
        quantized = value_at(unit, (site, "input"), unit.quantized_inputs[index])
        with in_float(unit), _as_in(unit, originals):
            inputs = value_at(unit, (site, "input"), unit.inputs[index])
        yield _rows(layer, inputs).double(), _rows(layer, quantized).double()


def float_layers(unit: Unit) -> dict[Site, Layer]:
    """Return copies of all layers of a unit, with weights and biases."""
    layers = ((site, slots.weight_layer(unit.model, site)) for site, _ in unit.sites)
    return {site: copy.deepcopy(layer.layer) for site, layer in layers if layer is not None}


def has_rows(layer: Layer) -> bool:
    """Tell whether a layer is a product of input rows by its weight's rows."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1
    return isinstance(layer, nn.Linear)


def to_nearest(step: str, site: Site) -> dict[str, Any]:
    """Return a step's note on a layer for which `has_rows` is false."""
    reason = "rounded to nearest, as its outputs do not read the same inputs"
    return {"step": step, "site": site.path, "left_alone": reason}


def _rows(layer: Layer, inputs: Tensor) -> Tensor:
    """Return the rows (n, K) that the weight's rows are multiplied with."""
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str)
        places = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        patches = F.unfold(inputs, *places)  # (images, K, places)
        inputs = patches.transpose(1, 2)
    return inputs.flatten(0, -2)


@contextmanager
def _as_in(unit: Unit, layers: dict[Site, Layer]) -> Iterator[None]:
    """Give the unit's layers the weights and biases of others for a while."""
    pairs = [
        (own, other)
        for site, layer in layers.items()
        for own, other in zip(
            slots.layer(unit.model, site).layer.parameters(), layer.parameters(), strict=True
        )
    ]
    present = [own.data for own, _ in pairs]
    try:
        for own, other in pairs:
            own.data = other.data
        yield
    finally:
        for (own, _), data in zip(pairs, present, strict=True):
            own.data = data
