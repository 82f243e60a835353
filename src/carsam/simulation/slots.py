"""Where the quantizers of a prepared model are: one slot per operand of each site."""

from typing import Any

from torch import Tensor, nn

from carsam.families.base import Site, SiteType
from carsam.simulation.attention import OPERANDS as ATTENTION_OPERANDS
from carsam.simulation.attention import AttentionProduct
from carsam.simulation.layers import QuantizedLayer


def operands(site: Site) -> tuple[str, ...]:
    """Return the names of the activations that a site quantizes."""
    return ATTENTION_OPERANDS if site.type is SiteType.ATTENTION else ("input",)


def layer(model: Any, site: Site) -> QuantizedLayer:
    """Return the quantizable layer of a linear or convolution site."""
    module: QuantizedLayer = model.get_submodule(site.path)
    return module


def weight_layer(model: Any, site: Site) -> QuantizedLayer | None:
    """Return the quantizable layer of a site, or None for an attention, which has no weight."""
    return None if site.type is SiteType.ATTENTION else layer(model, site)


def fillings(model: Any, site: Site) -> dict[str, nn.Module | None]:
    """Return what stands for each operand of a site, `weight` among them where it has one.

    None is an operand in float: an identity in its slot, or no slot at all.
    """
    module = model.get_submodule(site.path)
    if site.type is SiteType.ATTENTION:
        found = dict(getattr(getattr(module, "product", None), "quantizers", {}))
    else:
        found = {"input": getattr(module, "input_quantizer", None)}
        found["weight"] = getattr(module, "weight_grid", None)
    standing = {operand: None for operand in operands(site)} | found
    return {o: None if isinstance(f, nn.Identity) else f for o, f in standing.items()}


def multiplier(model: Any, site: Site) -> QuantizedLayer | AttentionProduct:
    """Return the module that multiplies the operands of a site."""
    return _product(model, site) if site.type is SiteType.ATTENTION else layer(model, site)


def projections(model: Any, site: Site) -> dict[str, QuantizedLayer]:
    """Return the layers that make an attention's query, key and value, by operand.

    The dictionary is empty where one layer makes all three.
    """
    around = site.attention
    if around is None or around.fused:
        return {}
    names = ("query", "key", "value")
    return {
        name: model.get_submodule(path)
        for name, path in zip(names, around.projections, strict=True)
    }


def quantizer(model: Any, site: Site, operand: str) -> nn.Module:
    """Return what stands in the slot of an operand: an identity, an observer, or a grid."""
    if site.type is SiteType.ATTENTION:
        return _product(model, site).quantizers[operand]
    return layer(model, site).input_quantizer


def set_quantizer_(model: Any, site: Site, operand: str, module: nn.Module) -> None:
    """Put a module into the slot of an operand."""
    if site.type is SiteType.ATTENTION:
        _product(model, site).quantizers[operand] = module
    else:
        layer(model, site).input_quantizer = module


def quantized_parameters(model: Any, sites: tuple[Site, ...]) -> dict[str, Tensor]:
    """Return the parameters of a prepared model under the names of the original model."""
    wrapped = {
        f"{site.path}.layer.{name}": f"{site.path}.{name}"
        for site in sites
        if site.type is not SiteType.ATTENTION
        for name in ("weight", "bias")
    }
    return {wrapped.get(name, name): parameter for name, parameter in model.named_parameters()}


def _product(model: Any, site: Site) -> AttentionProduct:
    product: AttentionProduct = model.get_submodule(site.path).product
    return product
