"""Bits for every unit under a budget, from the damage that each unit does alone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from carsam.diagnosis.damage import Case, Diagnosis
from carsam.diagnosis.switches import SwitchedModel
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.families.base import SiteType, sites_of_stages
from carsam.methods.units import UnitPlan
from carsam.simulation import slots
from carsam.simulation.layers import QuantizedLayer

LEAST, MOST = 2, 8

MEASURES: dict[str, Callable[["UnitCost", int], float]] = {
    "size": lambda unit, bits: unit.weights * bits,
    "operations": lambda unit, bits: unit.multiplications * bits * bits,
}
"""What a budget limits: bits of weights, or multiplications times both operands' bits."""


@dataclass(frozen=True)
class UnitCost:
    """What a unit costs and how much harm it does.

    Args:
        patterns: of rules that fit its sites and no others.
        harm: relative error of the mask logits when it alone is quantized.
        bits: of its weights and activations in that run, the mean.
        weights: how many.
        multiplications: of one image with its prompts.
    """

    patterns: tuple[str, ...]
    harm: float
    bits: float
    weights: int
    multiplications: int


def choose_bits(units: Sequence[UnitCost], mean_bits: float, measure: str) -> tuple[int, ...]:
    """Return every unit's bits: least expected harm, at no more cost than `mean_bits` everywhere.

    One more bit halves a grid's step and quarters its squared error, so a unit that does harm e at
    b0 bits is expected to do e 4^(b0 - b) at b, and the harms to add up. From 2 bits everywhere the
    bit that removes most harm for its cost is added repeatedly while the budget lasts: harm
    is convex in the bits, so this is the optimum up to what is left of the budget.

    Raises:
        UserError: the measure is not known, or the mean is not between 2 and 8.
    """
    if measure not in MEASURES:
        raise UserError(f"Budget {measure} is not known; expected {' or '.join(MEASURES)}.")
    if not LEAST <= mean_bits <= MOST:
        raise UserError(f"Mean bits are {mean_bits}; expected {LEAST} to {MOST}.")
    cost = MEASURES[measure]
    exponent = 1 if measure == "size" else 2
    total = sum(cost(unit, 1) for unit in units)
    left = total * (mean_bits**exponent - LEAST**exponent)
    bits = [LEAST] * len(units)
    while True:
        best: tuple[float, int, float] | None = None
        for place, unit in enumerate(units):
            more = cost(unit, bits[place] + 1) - cost(unit, bits[place])
            if bits[place] < MOST and more <= left:
                gain = 0.75 * unit.harm * 4.0 ** (unit.bits - bits[place])
                value = gain / more if more else float("inf")
                if best is None or value > best[0]:
                    best = (value, place, more)
        if best is None:
            return tuple(bits)
        bits[best[1]] += 1
        left -= best[2]


def unit_costs(
    model: SwitchedModel, units: Sequence[UnitPlan], found: Diagnosis, case: Case
) -> tuple[UnitCost, ...]:
    """Return cost and harm of every unit of a diagnosis.

    Args:
        model: that was diagnosed.
        units: its units; those without quantized operands are left out.
        found: the diagnosis.
        case: image and prompts to count multiplications on.
    """
    units = [unit for unit in units if model.of_sites([site for site, _ in unit.sites])]
    engine = TorchEngine(model.family, model.module, "simulated")
    with _counted(model.module, units) as counts:
        engine.decode(engine.encode(case.pixels), case.prompts, multimask_output=False)
    paths = [site.path for site in model.family.sites(model.module)]
    return tuple(
        UnitCost(
            _patterns(unit, paths),
            harm.logit_error,
            _mean_bits(unit),
            _weights(model.module, unit),
            sum(counts.get(site.path, 0) for site, _ in unit.sites),
        )
        for unit, harm in zip(units, found.alone, strict=True)
    )


def rules(units: Sequence[UnitCost], bits: Sequence[int]) -> tuple[str, ...]:
    """Return the choice as rules of `carsam quantize`."""
    pairs = zip(units, bits, strict=True)
    return tuple(f"{pattern}=w{b}a{b}" for unit, b in pairs for pattern in unit.patterns)


def _patterns(unit: UnitPlan, paths: Sequence[str]) -> tuple[str, ...]:
    """Return patterns that fit the unit's sites and no other of all sites' paths."""
    found: list[str] = []
    for stage, sites in sites_of_stages(unit.stages, tuple(site for site, _ in unit.sites)):
        own = {site.path for site in sites}
        fitting = {path for path in paths if fnmatchcase(path, f"{stage.path}*")}
        found += [f"{stage.path}*"] if fitting == own else sorted(own)
    return tuple(found)


@contextmanager
def _counted(model: Any, units: Sequence[UnitPlan]) -> Iterator[dict[str, int]]:
    """Count the multiplications of every site, by path, while the model runs."""
    counts: dict[str, int] = {}
    handles = []
    for unit in units:
        for site, _ in unit.sites:
            attention = site.type is SiteType.ATTENTION
            module = model.get_submodule(site.path)

            def count(
                part: nn.Module,
                inputs: tuple[Any, ...],
                output: Tensor,
                path: str = site.path,
                attention: bool = attention,
            ) -> None:
                number = _products(inputs, output) if attention else _layer(part, inputs, output)
                counts[path] = counts.get(path, 0) + number

            watched = module.product if attention else module
            handles.append(watched.register_forward_hook(count))
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _mean_bits(unit: UnitPlan) -> float:
    pairs = ((bits.weights, bits.activations) for _, bits in unit.sites)
    known = [number for pair in pairs for number in pair if number is not None]
    return sum(known) / len(known)


def _weights(model: Any, unit: UnitPlan) -> int:
    layers = (slots.weight_layer(model, site) for site, _ in unit.sites)
    return sum(layer.layer.weight.numel() for layer in layers if layer is not None)


def _layer(part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> int:
    assert isinstance(part, QuantizedLayer)
    weight = part.layer.weight
    if isinstance(part.layer, nn.ConvTranspose2d):
        return int(inputs[0].numel() * weight[0].numel())
    return int(output.numel() * weight[0].numel())


def _products(inputs: tuple[Any, ...], output: Tensor) -> int:
    """Both products of attention: queries * keys * d each, and output is queries * d."""
    return int(2 * output.numel() * inputs[1].shape[2])
