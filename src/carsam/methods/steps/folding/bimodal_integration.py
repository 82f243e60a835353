"""Bimodal integration: sign flips that bring the two peaks of the keys together, exactly."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from carsam.families.base import Role, Site
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.operands import in_float, listening, observe_again_, run
from carsam.methods.order import ALL
from carsam.methods.parameters import Between, Count, Share
from carsam.simulation import slots

BINS = 1024


@dataclass(frozen=True)
class BimodalIntegration(UnitStep):
    """PTQ4SAM's bimodal integration (BIG; Lv et al., CVPR 2024, arXiv 2405.03144).

    The keys of token-to-image attentions lie around two values of opposite sign, each channel
    around one of them. With the sign of every channel's mean multiplied into the rows and biases
    of the query and key projections, Q K' stays the same and the keys have one peak.

    An attention is bimodal if the density of its keys on the first image, from a Gaussian kernel
    of Scott's width, has exactly two peaks.

    Args:
        points: places where the density is looked at.
        height: of a peak, relative to the sum of the density over the points.
        distance: points between two peaks.
    """

    points: Annotated[int, Between(3, 4096)] = 128
    height: Share = 0.01
    distance: Count = 32
    operands = ("key",)
    precedes = ALL

    def run_(self, unit: Unit) -> None:
        """Flip signs in the unit's token-to-image attentions, and renew their statistics."""
        stages = {s.path for s in unit.plan.stages if s.role is Role.TOKEN_TO_IMAGE}
        for site, bits in unit.sites:
            if site.path in stages and bits.activations is not None:
                keys = _first_keys(unit, site)
                peaks = count_peaks(keys, self.points, self.height, self.distance)
                flipped = 0
                if peaks == 2:
                    signs = torch.where(keys.mean(0) < 0, -1.0, 1.0)
                    _flip_(unit, site, signs)
                    flipped = int((signs < 0).sum())
                unit.notes.append(
                    {
                        "step": "bimodal-integration",
                        "site": site.path,
                        "peaks": peaks,
                        "flipped": flipped,
                    }
                )


def count_peaks(values: Tensor, points: int, height: float, distance: int) -> int:
    """Return the number of peaks of the density of `values`.

    Of peaks closer than `distance` points the higher one counts.
    """
    values = values.flatten().float()
    low, high = (float(end) for end in values.aminmax())
    if high <= low:
        return 1
    counts = torch.histc(values, BINS, low, high)
    centres = torch.linspace(low, high, BINS, device=values.device)
    width = float(values.std()) * len(values) ** -0.2  # Scott's rule
    places = torch.linspace(low, high, points, device=values.device)
    density = torch.exp(-0.5 * ((places[:, None] - centres) / width) ** 2) @ counts
    inner = density[1:-1]
    tops = (inner > density[:-2]) & (inner >= density[2:]) & (inner >= height * density.sum())
    kept: list[int] = []
    found = tops.nonzero().flatten()
    for place in found[inner[found].argsort(descending=True)].tolist():
        if all(abs(place - other) >= distance for other in kept):
            kept.append(place)
    return len(kept)


def _first_keys(unit: Unit, site: Site) -> Tensor:
    """Return the keys of the first box of the first image: (tokens, heads * d)."""
    seen: list[Tensor] = []
    with in_float(unit), listening(unit, {(site, "key"): seen.append}):
        run(unit, [unit.inputs[0]])
    return seen[0][0].transpose(0, 1).flatten(1)  # (heads, tokens, d) before


def _flip_(unit: Unit, site: Site, signs: Tensor) -> None:
    layers = slots.projections(unit.model, site)
    for operand in ("query", "key"):
        layer = layers[operand].layer
        layer.weight.mul_(signs[:, None])
        if layer.bias is not None:
            layer.bias.mul_(signs)
    observe_again_(unit, [(site, "query"), (site, "key")])
