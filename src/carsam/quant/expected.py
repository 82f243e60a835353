"""Whether the grids of a model are those that its recipe asks for."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from carsam.families.base import Site
from carsam.quant import slots
from carsam.quant.grids import Grid
from carsam.recipe import Recipe


def mismatches(model: Any, sites: Iterable[Site], recipe: Recipe | None) -> Iterator[str]:
    """Yield what is wrong with each operand and each weight that is not as it should be.

    Args:
        model: prepared, and quantized or not.
        sites: all of them, those that stay in float included.
        recipe: whose bits and rules say what must have a grid, and of how many bits. None knows
            only that nothing but a grid may stand in a slot.
    """
    for site in sites:
        bits = None if recipe is None else recipe.bits_of(site.path, site.kind)
        for operand, filling in slots.fillings(model, site).items():
            wrong = None
            if filling is not None and not isinstance(filling, Grid):
                wrong = f"a {type(filling).__name__} is left in the slot of {operand}"
            elif bits is not None:
                expected = bits.weights if operand == "weight" else bits.activations
                wrong = _wrong_bits(operand, filling, expected)
            if wrong:
                yield f"{site.path}: {wrong}"


def is_float(model: Any, sites: Iterable[Site]) -> bool:
    """Tell whether nothing at all stands in the slots of a model, nor any grid of a weight."""
    return not any(any(slots.fillings(model, site).values()) for site in sites)


def _wrong_bits(operand: str, grid: nn.Module | None, expected: int | None) -> str | None:
    """Say how a grid differs from one of so many bits (None: no grid); None if it does not."""
    found = grid.bits if isinstance(grid, Grid) else None
    if found == expected:
        return None
    wanted = "leaves it in float" if expected is None else f"says {expected} bits"
    has = "is in float" if found is None else f"has a grid of {found} bits"
    return f"{operand} {has}, but the recipe {wanted}"
