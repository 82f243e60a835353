"""A quantized model with other grids than its recipe gave it."""

from collections.abc import Callable
from typing import Any

from carsam.families.base import Family
from carsam.formats.checkpoint import Checkpoint
from carsam.grids.base import Grid
from carsam.simulation import slots
from carsam.simulation.model import QuantizedModel


def with_grids(family: Family, pair: Any, replacement: Callable) -> tuple[Any, Checkpoint]:
    """The pair with other grids where `replacement(site, operand, grid)` returns one."""
    for site in family.sites(pair.model):
        for operand in slots.operands(site):
            grid = slots.quantizer(pair.model, site, operand)
            found = replacement(site, operand, grid) if isinstance(grid, Grid) else None
            if found is not None:
                slots.set_quantizer_(pair.model, site, operand, found)
    return pair.model, QuantizedModel(family, pair.model).to_checkpoint()
