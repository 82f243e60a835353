"""Finished units on disk, so that a run that was stopped goes on where it was."""

import glob
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from carsam.families.base import Site
from carsam.grids.base import Grid
from carsam.grids.registry import describe_grid, load_grid, store_grid
from carsam.methods.units import UnitPlan
from carsam.simulation import slots

HASH_LENGTH = 12


class UnitLog:
    """One folder with two files per finished unit: its tensors, and what describes them.

    Args:
        run: the run's future folder; the log is hidden beside it.
        identity: everything that decides the result; another identity has another folder.
    """

    def __init__(self, run: Path, identity: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder = run.absolute().parent / f".{run.name}-{digest[:HASH_LENGTH]}.units"

    def store(self, index: int, model: Any, plan: UnitPlan, notes: list[dict[str, Any]]) -> None:
        """Write a finished unit, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: p.detach().clone() for name, p in _parameters(model, plan).items()}
        grids = {}
        for name, grid in _grids(model, plan).items():
            grids[name] = describe_grid(grid)
            for suffix, array in store_grid(f"grid:{name}", grid).items():
                tensors[suffix] = torch.from_numpy(array)
        partial = self.folder / "partial"
        save_file(tensors, partial)
        os.replace(partial, self._path(index, "safetensors"))
        partial.write_text(json.dumps({"unit": plan.name, "grids": grids, "notes": notes}))
        os.replace(partial, self._path(index, "json"))  # last: its presence means finished

    def restore_(self, index: int, model: Any, plan: UnitPlan) -> list[dict[str, Any]] | None:
        """Put a finished unit into the model and return its notes; None if it is not finished."""
        try:
            description = json.loads(self._path(index, "json").read_text())
            tensors = load_file(self._path(index, "safetensors"))
        except (FileNotFoundError, json.JSONDecodeError, SafetensorError):
            return None
        if description["unit"] != plan.name:
            return None
        for name, parameter in _parameters(model, plan).items():
            parameter.data.copy_(tensors[name])
        device = next(model.parameters()).device
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        for site, _ in plan.sites:
            for operand in _operands(site):
                entry = description["grids"].get(f"{site.path}.{operand}")
                if entry is not None:
                    key = f"grid:{site.path}.{operand}"
                    grid = load_grid(key, entry, arrays, rows=operand == "weight").to(device)
                    _set_grid_(model, site, operand, grid)
        notes: list[dict[str, Any]] = description["notes"]
        return notes

    def _path(self, index: int, ending: str) -> Path:
        return self.folder / f"unit-{index:03d}.{ending}"


def remove_logs(run: Path) -> None:
    """Delete the logs of a run that is saved now, those of earlier settings included."""
    for folder in run.absolute().parent.glob(f".{glob.escape(run.name)}-*.units"):
        shutil.rmtree(folder)


def _parameters(model: Any, plan: UnitPlan) -> dict[str, torch.Tensor]:
    """Return the parameters of the blocks that the unit's stages belong to."""
    places = tuple(f"{stage.block or stage.path}." for stage in plan.stages)
    return {n: p for n, p in model.named_parameters() if n.startswith(places)}


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
