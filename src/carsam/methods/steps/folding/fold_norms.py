"""Fold per-channel grids after a layer normalisation into the norm and the layer that reads it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from carsam.families.base import NormBefore
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.operands import observe_again_
from carsam.methods.order import ALL
from carsam.methods.steps.ranges.channel_grouping import channel_ranges
from carsam.simulation.stored import as_stored, store_


@dataclass(frozen=True)
class FoldNorms(UnitStep):
    """RepQ-ViT's scale reparameterization (Li et al., ICCV 2023, arXiv 2212.08254).

    Channels x_c of a norm's output have ranges, so grids, (s_c, z_c) of their own. With s and z
    their means, r = s_c / s and t = s_c (z_c - z), all channels of (x + t) / r share the grid
    (s, z). The norm's weight becomes g / r, its bias (b + t) / r, the linear's weight r W and its
    bias b - W t, and the float output stays; all layers that read the norm change alike. The
    statistics are renewed; a step that sets one grid per tensor then finds (s, z).

    Where we differ: t is 0 where padded windows put zeros between norm and linear, which no bias
    makes up for; then s_c is that of a range around 0, [-max |x_c|, max |x_c|]. In the decoder the
    norms' outputs have other readers, so nothing is folded there. Ranges are means of the images'
    extremes.
    """

    operands = ("input",)
    precedes = ALL

    def run_(self, unit: Unit) -> None:
        """Fold every such norm of the unit."""
        sites = {site.path: site for site, _ in unit.sites}
        bits = {site.path: bits for site, bits in unit.sites}
        for norm in (stage.norm for stage in unit.plan.stages if stage.norm is not None):
            quantized = [sites[path] for path in norm.layers if path in sites]
            quantized = [site for site in quantized if bits[site.path].activations]
            if quantized:
                rounded = [path for path in norm.layers if path in bits and bits[path].weights]
                ranges = _widest(list(channel_ranges(unit, quantized).values()))
                layers = [unit.model.get_submodule(path).layer for path in norm.layers]
                shifts = norm.shifts and all(layer.bias is not None for layer in layers)
                ratio, offset = ratio_and_offset(
                    ranges, shifts, bits[quantized[0].path].activations
                )
                fold_norm_(unit, norm, rounded, ratio, offset)
                observe_again_(unit, [(site, "input") for site in quantized])


def ratio_and_offset(ranges: Tensor, shifts: bool, bits: int | None) -> tuple[Tensor, Tensor]:
    """Return r and t (channels,) for smallest and largest values (channels, 2)."""
    assert bits is not None
    low, high = ranges.unbind(1)
    if not shifts:
        largest = ranges.abs().amax(1)
        low, high = -largest, largest
    empty = high - low <= torch.finfo(torch.float32).tiny
    if bool(empty.all()):
        return torch.ones_like(low), torch.zeros_like(low)
    levels = 2**bits - 1
    scale = (high - low) / levels
    mean = scale[~empty].mean()
    scale = torch.where(empty, mean, scale)
    zero_point = torch.round(-low / scale)  # may lie beyond the codes: the shift brings it back
    offset = scale * (zero_point - zero_point.mean().round().clamp(0, levels))
    return scale / mean, offset if shifts else torch.zeros_like(offset)


def _widest(ranges: list[Tensor]) -> Tensor:
    """Return the smallest and largest value of every channel (channels, 2) among several."""
    stacked = torch.stack(ranges)
    return torch.stack([stacked[..., 0].amin(0), stacked[..., 1].amax(0)], 1)


def fold_norm_(
    unit: Unit, folded: NormBefore, rounded: list[str], ratio: Tensor, offset: Tensor
) -> None:
    """Change the norm first, as the checkpoint keeps it, then the layers to fit.

    Args:
        rounded: paths of the layers whose weights will be rounded; the others' stay float.
    """
    norm = unit.model.get_submodule(folded.norm)
    weight = as_stored(norm.weight / ratio)
    ratio = torch.where(weight != 0, norm.weight / weight, ratio)
    bias = as_stored((norm.bias + offset) / ratio)
    offset = bias * ratio - norm.bias
    norm.weight.copy_(weight)
    norm.bias.copy_(bias)
    for path in folded.layers:
        layer = unit.model.get_submodule(path).layer
        if layer.bias is not None and layer.weight.ndim == 2:
            store_(layer.bias, layer.bias - layer.weight @ offset)
        rows = layer.weight * ratio.view(-1, *[1] * (layer.weight.ndim - 2))
        layer.weight.copy_(rows if path in rounded else as_stored(rows))
