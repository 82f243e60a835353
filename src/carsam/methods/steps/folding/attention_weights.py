"""The weights around one attention, whichever way its layers are built."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from carsam.families.base import AttentionLayers, Site
from carsam.methods.base import Unit
from carsam.simulation import slots

OPERANDS = ("query", "key", "value")


@dataclass(frozen=True)
class AttentionWeights:
    """Views of an attention's weights; what is written to them is written to the model.

    Args:
        rows: weight (heads * d, channels) and bias (heads * d) of each projection, by the operand
            it makes.
        output: the layer after the products; its weight has heads * d columns.
        output_site: where that layer is.
        tables: relative positions (places, d) that the queries are multiplied with, for all heads.
        heads: how many.
        rotated: queries and keys are rotated by their places behind these layers.
    """

    rows: dict[str, tuple[Tensor, Tensor | None]]
    output: Any
    output_site: Site
    tables: tuple[Tensor, ...]
    heads: int
    rotated: bool


def attentions(unit: Unit) -> Iterator[tuple[Site, AttentionWeights]]:
    """Yield the attentions of a unit that are quantized, with their weights."""
    sites = {site.path: site for site, _ in unit.sites}
    for site, bits in unit.sites:
        around = site.attention
        if around is not None and bits.activations is not None and around.output in sites:
            yield site, _weights(unit.model, site, around, sites[around.output])


def _weights(
    model: Any, site: Site, around: AttentionLayers, output_site: Site
) -> AttentionWeights:
    heads = model.get_submodule(site.path).num_attention_heads
    output = model.get_submodule(around.output).layer
    tables = tuple(model.get_parameter(path).data for path in around.positions)
    if not around.fused:
        layers = slots.projections(model, site)
        rows = {operand: _data(layer.layer) for operand, layer in layers.items()}
        return AttentionWeights(rows, output, output_site, tables, heads, around.rotated)
    weight, bias = _data(model.get_submodule(around.projections[0]).layer)
    biases = [None] * 3 if bias is None else bias.chunk(3)
    rows = dict(zip(OPERANDS, zip(weight.chunk(3), biases, strict=True), strict=True))
    return AttentionWeights(rows, output, output_site, tables, heads, around.rotated)


def _data(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    return weight.data, bias.data if isinstance(bias, Tensor) else None
