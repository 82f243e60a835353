"""Whether the grids of a model are those that its recipe asks for."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from carsam.errors import UserError
from carsam.families.base import Site
from carsam.formats.bits import Bits, Rule, bits_of_site
from carsam.grids.base import Grid
from carsam.simulation import slots

UNFINISHED = "reconstruct-unfinished"
"""The step that leaves the published faults in a model, which is then a legacy one."""


@dataclass(frozen=True)
class Expected:
    """What a recipe asks of a model, whatever its steps are.

    Args:
        name: of the recipe.
        bits: of every site that is not float by its kind.
        rules: exceptions.
        legacy: whether the recipe leaves the published faults in the model.
    """

    name: str
    bits: Bits
    rules: tuple[Rule, ...]
    legacy: bool

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> "Expected":
        """Read the entry `recipe` of a manifest.

        Raises:
            UserError: it is not what `Recipe.to_dict` returns.
        """
        try:
            rules = tuple(Rule.parse(rule) for rule in recipe["rules"])
            legacy = any(step["name"] == UNFINISHED for step in recipe["steps"])
            return cls(str(recipe["name"]), Bits.parse(recipe["bits"]), rules, legacy)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"The recipe is damaged ({type(error).__name__}: {error}); expected the keys and "
                "values that Recipe.to_dict writes."
            ) from error


def mismatches(model: Any, sites: Iterable[Site], expected: Expected | None) -> Iterator[str]:
    """Yield what is wrong with each operand and each weight that is not as it should be.

    Args:
        model: prepared, and quantized or not.
        sites: all of them, those that stay in float included.
        expected: says what must have a grid, and of how many bits. None knows only that nothing
            but a grid may stand in a slot.
    """
    for site in sites:
        bits = None
        if expected is not None:
            bits = bits_of_site(expected.bits, expected.rules, site.path, site.kind)
        for operand, filling in slots.fillings(model, site).items():
            wrong = None
            if filling is not None and not isinstance(filling, Grid):
                wrong = f"a {type(filling).__name__} is left in the slot of {operand}"
            elif bits is not None:
                width = bits.weights if operand == "weight" else bits.activations
                wrong = _wrong_bits(operand, filling, width)
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
