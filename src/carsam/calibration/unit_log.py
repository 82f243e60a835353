"""Finished units on disk, so that a run that was stopped continues where it was."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carsam.errors import UserError
from carsam.families.base import Site
from carsam.formats.journal import Entry, Item, Journal, remove_journals
from carsam.grids.base import Grid
from carsam.grids.registry import describe_grid, load_grid, store_grid
from carsam.methods.units import UnitPlan
from carsam.simulation import slots
from carsam.simulation.centre import Centre, load_centres_

KIND = "units"


class UnitLog:
    """The journal of a quantization: its finished units, and what its closing steps keep.

    Args:
        run: the run's future folder; the journal is hidden beside it.
        identity: everything that decides the result; another identity has another journal.
        warn: hears that something cannot be kept.
    """

    def __init__(
        self, run: Path, identity: dict[str, Any], warn: Callable[[str], object] = warnings.warn
    ) -> None:
        self._journal = Journal(run, KIND, identity, warn)

    @property
    def begun(self) -> bool:
        """Whether something is kept already."""
        return self._journal.folder.is_dir()

    def differences(self) -> list[set[str]]:
        """Return what is different about other runs to the same folder that were not finished."""
        return self._journal.differences()

    def has(self, index: int, plan: UnitPlan) -> bool:
        """Tell whether a unit is finished."""
        description = self._journal.document(_name(index))
        return description is not None and bool(description["unit"] == plan.name)

    def store(self, index: int, model: Any, plan: UnitPlan, notes: list[dict[str, Any]]) -> None:
        """Keep a finished unit; not a legacy one, whose quantizers drop values at random."""
        if not _on_grids(model, plan):
            return
        arrays = {name: p.detach().cpu().numpy() for name, p in _parameters(model, plan).items()}
        grids = {}
        for name, grid in _grids(model, plan).items():
            grids[name] = describe_grid(grid)
            arrays.update(store_grid(f"grid:{name}", grid))
        centres = {path: centre.name for path, centre in _centres(model, plan)}
        description = {"unit": plan.name, "grids": grids, "centres": centres, "notes": notes}
        self._journal.store(_name(index), Item(arrays, description))

    def restore_(self, index: int, model: Any, plan: UnitPlan) -> list[dict[str, Any]]:
        """Put a finished unit into the model and return its notes.

        Raises:
            UserError: its file cannot be read.
        """
        item = self._journal.restore(_name(index))
        if item is None:
            raise UserError(
                f"The finished unit {plan.name} cannot be read. Remove {self._journal.folder} and "
                "start again."
            )
        for name, parameter in _parameters(model, plan).items():
            parameter.data.copy_(torch.from_numpy(item.arrays[name]))
        device = next(model.parameters()).device
        arrays = item.arrays
        load_centres_(
            model,
            item.document["centres"],
            lambda name: torch.from_numpy(arrays[name]).to(device),
        )
        for site, _ in plan.sites:
            for operand in _operands(site):
                entry = item.document["grids"].get(f"{site.path}.{operand}")
                if entry is not None:
                    key = f"grid:{site.path}.{operand}"
                    grid = load_grid(key, entry, item.arrays, rows=operand == "weight").to(device)
                    _set_grid_(model, site, operand, grid)
        notes: list[dict[str, Any]] = item.document["notes"]
        return notes

    def entry(self, index: int, name: str) -> Entry:
        """Return the place where a closing step keeps what it needs to go on."""
        return Entry(self._journal, f"closing-{index}-{name}")

    def trained(self, index: int, name: str) -> int:
        """Return the steps of training that a closing step has kept."""
        return int((self.entry(index, name).document() or {}).get("done", 0))


def remove_logs(run: Path) -> None:
    """Delete the logs of a run that is saved now, those of earlier settings included."""
    remove_journals(run, KIND)


def _name(index: int) -> str:
    return f"unit-{index:03d}"


def _on_grids(model: Any, plan: UnitPlan) -> bool:
    """Tell whether nothing but grids stands in the unit's slots."""
    fillings = (
        slots.quantizer(model, site, operand)
        for site, _ in plan.sites
        for operand in slots.operands(site)
    )
    return all(isinstance(filling, Grid | nn.Identity) for filling in fillings)


def _parameters(model: Any, plan: UnitPlan) -> dict[str, torch.Tensor]:
    """Return the parameters of the blocks that the unit's stages belong to, and of other parts."""
    places = tuple(f"{place}." for stage in plan.stages for place in stage.places)
    return {n: p for n, p in model.named_parameters() if n.startswith(places)}


def _centres(model: Any, plan: UnitPlan) -> Iterator[tuple[str, Centre]]:
    """Yield what is taken out of inputs, with the layers' paths."""
    for site, _ in plan.sites:
        layer = slots.weight_layer(model, site)
        if layer is not None and layer.centre is not None:
            yield site.path, layer.centre


def _operands(site: Site) -> tuple[str, ...]:
    return (*slots.operands(site), "weight")


def _grids(model: Any, plan: UnitPlan) -> dict[str, Grid]:
    grids = {}
    for site, _ in plan.sites:
        for operand in slots.operands(site):
            grid = slots.quantizer(model, site, operand)
            if isinstance(grid, Grid):
                grids[f"{site.path}.{operand}"] = grid
        layer = slots.weight_layer(model, site)
        if layer is not None and layer.weight_grid is not None:
            grids[f"{site.path}.weight"] = layer.weight_grid
    return grids


def _set_grid_(model: Any, site: Site, operand: str, grid: Any) -> None:
    layer = slots.weight_layer(model, site)
    if operand == "weight" and layer is not None:
        layer.weight_grid = grid
    else:
        slots.set_quantizer_(model, site, operand, grid)
