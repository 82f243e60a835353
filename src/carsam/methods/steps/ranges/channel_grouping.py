"""Grids per group of channels for the inputs of projections and MLPs."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from carsam.families.base import Site, SiteType
from carsam.grids.base import scale_and_zero_point
from carsam.grids.grouped import GroupedUniformGrid
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.entry_layers import entry_layers
from carsam.methods.inspecting.operands import Consumer, in_float, listening, run
from carsam.methods.order import Outcome
from carsam.methods.parameters import Between
from carsam.simulation import slots

ROUNDS = 25


@dataclass(frozen=True)
class ChannelGrouping(UnitStep):
    """AHCPTQ's channel-aware grouping (CAG; Zhang et al., ICCV 2025, arXiv 2503.03088).

    Inputs of query, key and value projections and of the first layers of MLPs get one uniform
    grid per group of channels of like range.

    Where we differ: the paper starts from one grid per channel and merges them to 32, 16, 8 and
    4 while it trains, by k-means on scale and zero point, which differ in size a hundredfold;
    here channels are grouped once, before training, by k-means on their smallest and largest
    values (means over the images), whose means over a group are its range.

    Args:
        groups: of channels per tensor.
    """

    groups: Annotated[int, Between(1, 256)] = 4
    operands = ("input",)
    makes = frozenset({Outcome.TOKENS})
    precedes = makes | {Outcome.TRAINING, Outcome.INPUT_COMPENSATION}

    def run_(self, unit: Unit) -> None:
        """Give the unit's entry layers grouped grids."""
        bits = dict(unit.sites)
        sites = [site for site in entry_layers(unit) if bits[site].activations is not None]
        for site, ranges in channel_ranges(unit, sites).items():
            group, centres = nearest_groups(ranges, min(self.groups, len(ranges)))
            activations = bits[site].activations
            assert activations is not None
            scale, zero_point = scale_and_zero_point(centres[:, 0], centres[:, 1], activations)
            grid = GroupedUniformGrid(scale, zero_point, group, activations)
            slots.set_quantizer_(unit.model, site, "input", grid)


def channel_ranges(unit: Unit, sites: list[Site]) -> dict[Site, Tensor]:
    """Return the smallest and largest value of every input channel (channels, 2), float inputs.

    Both are means over the images of each image's extremes.
    """
    image: dict[Site, list[Tensor]] = {site: [] for site in sites}
    ranges: dict[Site, list[Tensor]] = {site: [] for site in sites}

    def watch(site: Site) -> Consumer:
        def consume(values: Tensor) -> None:
            if site.type is SiteType.CONV:
                values = values.movedim(1, -1)
            rows = values.flatten(0, -2)
            image[site].append(torch.stack(rows.aminmax(dim=0), 1))

        return consume

    with in_float(unit), listening(unit, {(site, "input"): watch(site) for site in sites}):
        for state in unit.inputs:
            run(unit, [state])
            for site, pieces in image.items():
                stacked = torch.stack(pieces)
                ranges[site].append(torch.stack([stacked.amin(0)[:, 0], stacked.amax(0)[:, 1]], 1))
                pieces.clear()
    return {site: torch.stack(each).mean(0) for site, each in ranges.items()}


def nearest_groups(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return each point's group and the groups' centres: k-means from far-apart points.

    Args:
        points: (n, dimensions).
    """
    first = (points - points.mean(0)).square().sum(1).argmin()
    centres = points[first][None]
    while len(centres) < count:
        farthest = torch.cdist(points, centres).amin(1).argmax()
        centres = torch.cat([centres, points[farthest][None]])
    for _ in range(ROUNDS):
        group = torch.cdist(points, centres).argmin(1)
        for number in range(count):
            if bool((group == number).any()):
                centres[number] = points[group == number].mean(0)
    return torch.cdist(points, centres).argmin(1), centres
