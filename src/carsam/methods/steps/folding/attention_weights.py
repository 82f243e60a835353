"""The weights around one attention, whichever way its layers are built."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from carsam.families.base import Site, SiteType
from carsam.methods.base import Unit
from carsam.methods.steps.mac.samples import projections

OPERANDS = ("query", "key", "value")


@dataclass(frozen=True)
class AttentionWeights:
    """Views of an attention's weights; what is written to them is written to the model.

    Args:
        rows: weight (heads * d, channels) and bias (heads * d) of each projection, by the operand
            it makes.
        output: the layer behind the products; its weight has heads * d columns.
        output_site: where that layer is.
        tables: relative positions (places, d) that the queries are multiplied with, for all heads.
        heads: how many.
    """

    rows: dict[str, tuple[Tensor, Tensor | None]]
    output: Any
    output_site: Site
    tables: tuple[Tensor, ...]
    heads: int


def attentions(unit: Unit) -> Iterator[tuple[Site, AttentionWeights]]:
    """Yield the attentions of a unit that are quantized, with their weights."""
    sites = {site.path: site for site, _ in unit.sites}
    for site, bits in unit.sites:
        if site.type is SiteType.ATTENTION and bits.activations is not None:
            module: Any = unit.model.get_submodule(site.path)
            output = f"{site.path}.{'proj' if hasattr(module, 'proj') else 'out_proj'}"
            if output in sites:
                yield site, _weights(module, sites[output])


def _weights(module: Any, output_site: Site) -> AttentionWeights:
    layers = projections(module)
    if layers:
        rows = {operand: (_data(layer.layer)) for operand, layer in layers.items()}
        heads = module.num_attention_heads
        return AttentionWeights(rows, module.out_proj.layer, output_site, (), heads)
    weight, bias = _data(module.qkv.layer)
    biases = [None] * 3 if bias is None else bias.chunk(3)
    rows = dict(zip(OPERANDS, zip(weight.chunk(3), biases, strict=True), strict=True))
    tables = (module.rel_pos_h.data, module.rel_pos_w.data) if module.use_rel_pos else ()
    return AttentionWeights(
        rows, module.proj.layer, output_site, tables, module.num_attention_heads
    )


def _data(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    return weight.data, bias.data if isinstance(bias, Tensor) else None
