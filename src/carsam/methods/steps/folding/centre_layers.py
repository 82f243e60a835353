"""Take out of what layers read what is the same in all images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from carsam.families.base import Constant, Site, SiteType
from carsam.families.sam.decoding import image_positions
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.operands import in_float, listening, observe_again_, run
from carsam.methods.order import ALL, Outcome
from carsam.methods.steps.folding.fold_norms import fold_norm_
from carsam.simulation import slots
from carsam.simulation.centre import ChannelCentre, PlaceCentre, TokenCentre


@dataclass(frozen=True)
class CentreLayers(UnitStep):
    """Exact: x W' = (x - c) W' + c W', where c is known before there is an image.

    The decoder's own tokens (of the IoU, of the masks) each play one part: most of what varies
    between them is that part's mean, the same in every image. What image tokens get added, their
    position, is the same in every image altogether. With c W' in a float table, like a bias with
    one row per token, only x - c is rounded, and only it meets the rounded weight.

    The mean of each of its own tokens is c, or the mean that all tokens of prompts have; of image
    tokens, their position; of the maps in the encoder's neck, and of those that SAM 2's levels are
    made of, the mean of each channel. Where only layers with a bias read a norm, the channels'
    means move from the norm's bias to theirs, and nothing is left to do at run time.

    Args:
        tokens: take the means out of tokens.
        places: take the positions out of image tokens.
        channels: take the means out of the neck's channels.
        norms: move the means out of norms.
    """

    tokens: bool = True
    places: bool = True
    channels: bool = True
    norms: bool = True

    operands = ("input",)
    makes = frozenset({Outcome.CENTRES})
    precedes = ALL - {Outcome.COMPENSATION}  # weights may have been changed, and stay exact

    def run_(self, unit: Unit) -> None:
        """Give the unit's layers their centres, and renew the statistics of what is left."""
        chosen = {c for c in Constant if getattr(self, c.value)}
        sites = [site for site, bits in unit.sites if bits.activations and site.constant in chosen]
        means = row_means(unit, [site for site in sites if site.constant is not Constant.PLACES])
        for site in sites:
            layer = slots.layer(unit.model, site)
            weight = layer.layer.weight.data
            if site.constant is Constant.PLACES:
                positions = image_positions(unit.model)[0, 0].detach()
                layer.centre = PlaceCentre(weight.clone(), positions.clone())
            elif site.constant is Constant.TOKENS:
                layer.centre = TokenCentre.of(means[site], weight)
            else:
                layer.centre = ChannelCentre.of(means[site][0], weight)
        if self.norms:
            sites += self._move_out_of_norms(unit)
        observe_again_(unit, [(site, "input") for site in sites])

    def _move_out_of_norms(self, unit: Unit) -> list[Site]:
        """Return the sites whose inputs have changed."""
        bits = dict(unit.sites)
        moved: list[Site] = []
        for norm in (stage.norm for stage in unit.plan.stages if stage.norm is not None):
            readers = [site for site in bits if site.path in norm.layers and bits[site].activations]
            layers = [unit.model.get_submodule(path).layer for path in norm.layers]
            if norm.shifts and readers and all(layer.bias is not None for layer in layers):
                mean = row_means(unit, readers[:1])[readers[0]][0]
                rounded = [site.path for site in readers if bits[site].weights is not None]
                fold_norm_(unit, norm, rounded, torch.ones_like(mean), -mean)
                moved += readers
        return moved


def row_means(unit: Unit, sites: list[Site]) -> dict[Site, Tensor]:
    """Run a unit in float on every image; return the mean inputs (own tokens + 1, K) of layers.

    All rows that are no own tokens have one mean, the last.
    """
    sums: dict[Site, Tensor] = {}
    counts: dict[Site, Tensor] = {}

    def adding(site: Site) -> Callable[[Tensor], None]:
        def add(inputs: Tensor) -> None:
            rows = inputs.detach().double()
            if site.type is SiteType.CONV:
                rows = rows.flatten(2).transpose(1, 2)
            rows = rows.flatten(0, -3)  # (groups, T, K)
            places = torch.arange(rows.shape[1]).clamp(max=site.own_tokens)
            total = rows.new_zeros(site.own_tokens + 1, rows.shape[2])
            total.index_add_(0, places, rows.sum(0))
            count = torch.bincount(places, minlength=site.own_tokens + 1) * len(rows)
            sums[site] = sums.get(site, 0) + total
            counts[site] = counts.get(site, 0) + count

        return add

    with in_float(unit), listening(unit, {(site, "input"): adding(site) for site in sites}):
        run(unit, unit.inputs)
    return {s: (sums[s] / counts[s][:, None].clamp(min=1)).float() for s in sites}
