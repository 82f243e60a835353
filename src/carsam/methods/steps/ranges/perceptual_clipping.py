"""Perceptual clipping: ranges that keep an attention looking where it looked."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from carsam.families.base import Site, SiteType
from carsam.grids.base import UniformGrid
from carsam.grids.observers import percentile
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.operands import Key, in_float, replaced, value_at
from carsam.methods.order import Outcome
from carsam.methods.parameters import Count, Share
from carsam.methods.recipe import Bits
from carsam.simulation import slots

COVERED = (
    *(0.85, 0.87, 0.88, 0.89, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95),
    *(0.96, 0.965, 0.97, 0.975, 0.98, 0.983, 0.985, 0.987, 0.989),
    *(0.99, 0.993, 0.995, 0.997, 0.999, 0.9993, 0.9995, 0.9997, 0.9999, 0.99999),
)
"""Share of the values below the upper end of a range, and above the lower one; as released."""


@dataclass(frozen=True)
class PerceptualClipping(UnitStep):
    """SAQ-SAM's perceptual-consistency clipping (PCC; Zhang et al., AAAI 2026, arXiv
    2503.06515).

    For the inputs of an attention's query and key projections and for queries and keys: of
    several percentile ranges the one with which the set of the attention's focus, where the
    probability is above `focus` of its row's largest, overlaps most with that of the float
    attention (intersection over union, first image). One operand after the other, the others on
    the grids they have so far, float weights; the whole round is repeated `rounds` times.

    Where we differ: the percentiles are of all images, those of the released code of the first; of
    equal overlaps the widest range is taken, there the narrowest.

    Args:
        focus: share of a row's largest probability.
        rounds: how often the operands are gone through.
        kinds: pattern of the kinds of attentions to clip for.
    """

    focus: Share = 0.5
    rounds: Count = 2
    kinds: str = "decoder.*"
    needs = frozenset({Outcome.GRIDS})
    makes = frozenset({Outcome.SCORE_RANGES, Outcome.TOKENS})
    precedes = makes | {Outcome.TRAINING, Outcome.COMPENSATION}
    operands = ("query", "key")

    def acts_on(self, site: Site, bits: Bits) -> bool:
        """Whether queries or keys are quantized there, and the kind is one of `kinds`."""
        return fnmatchcase(site.kind, self.kinds) and super().acts_on(site, bits)

    def reads_histogram(self, site: Site, operand: str) -> bool:
        """Return True: percentiles are candidates."""
        return True

    def run_(self, unit: Unit) -> None:
        """Set the four operands' grids in every attention that has projections of its own."""
        bits = {site: bits for site, bits in unit.sites}
        for site in bits:
            if site.type is SiteType.ATTENTION and fnmatchcase(site.kind, self.kinds):
                keys = [key for key in _operands(unit, site) if bits[key[0]].activations]
                overlap = self._clip_(unit, site, keys)
                unit.notes.append(
                    {"step": "perceptual-clipping", "site": site.path, "overlap": overlap}
                )

    def _clip_(self, unit: Unit, site: Site, keys: list[Key]) -> float:
        """Search the grids of some operands of an attention; return the overlap reached."""
        chosen: dict[Key, UniformGrid] = {}
        best = 1.0
        with in_float(unit):
            focus = self._focus(unit, site, {})
            for key in self.rounds * keys:
                best = -1.0
                for grid in _candidates(unit, key):
                    found = self._focus(unit, site, {**chosen, key: grid})
                    overlap = float((found & focus).sum() / (found | focus).sum().clamp(min=1))
                    if overlap >= best:  # of equals the widest range, which comes last
                        best, winner = overlap, grid
                chosen[key] = winner
        for key, grid in chosen.items():
            slots.set_quantizer_(unit.model, *key, grid)
        return best

    def _focus(self, unit: Unit, site: Site, grids: dict[Key, UniformGrid]) -> Tensor:
        with replaced(unit.model, grids):
            probabilities = value_at(unit, (site, "probabilities"), unit.inputs[0])
        return probabilities > self.focus * probabilities.amax(-1, keepdim=True)


def _operands(unit: Unit, site: Site) -> Iterator[Key]:
    """Yield the inputs of the query and key projections, then queries and keys."""
    sites = {slots.weight_layer(unit.model, each): each for each, _ in unit.sites}
    layers = slots.projections(unit.model, site)
    for operand in ("query", "key"):
        if layers.get(operand) in sites:
            yield sites[layers[operand]], "input"
    yield site, "query"
    yield site, "key"


def _candidates(unit: Unit, key: Key) -> Iterator[UniformGrid]:
    site, operand = key
    bits = dict(unit.sites)[site].activations
    assert bits is not None
    device = next(unit.model.parameters()).device
    for covered in COVERED:
        ends = percentile(unit.statistics[site.path, operand], bits, covered)
        low, high = (torch.tensor([end], device=device) for end in ends)
        yield UniformGrid.from_range(low, high, bits)
