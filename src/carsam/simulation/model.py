"""A quantized model in memory, to and from a checkpoint."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from carsam.errors import UserError
from carsam.families import build_model
from carsam.families.base import Family, Site, SiteType
from carsam.formats.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from carsam.formats.grid_layouts import weight_rows
from carsam.formats.packing import pack, unpack
from carsam.grids.base import Grid, UniformGrid
from carsam.grids.registry import describe_grid, load_grid, store_grid
from carsam.simulation import slots
from carsam.simulation.centre import load_centres_
from carsam.simulation.expected import Expected, is_float, mismatches
from carsam.simulation.layers import rows_to_weight, weight_to_rows
from carsam.simulation.stored import as_stored
from carsam.simulation.wrap import wrap_


@dataclass(frozen=True)
class QuantizedModel:
    """A model with grids in its slots, and where it came from.

    Args:
        family: tells where the sites are.
        module: the prepared transformers model; float where no rule quantizes it.
        provenance: the manifest's keys on source, recipe, seed, calibration and versions.
    """

    family: Family
    module: Any
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site of the model, quantized or not."""
        return self.family.sites(self.module)

    @property
    def image_size(self) -> int:
        """Side of its inputs, in pixels."""
        return self.family.framing(self.module.config).side

    @property
    def expected(self) -> Expected | None:
        """What the recipe that the provenance names asks for; None if it names none."""
        recipe = self.provenance.get("recipe")
        return None if recipe is None else Expected.of(recipe)

    @property
    def mode(self) -> str:
        """What the model computes with.

        `simulated`: with the grids that its recipe asks for; `legacy`: with the published faults;
        `float`: with no grid at all; `unfinished`: with others, or no recipe says with which.
        """
        expected = self.expected
        if expected is not None and expected.legacy:
            return "legacy"
        if is_float(self.module, self.sites):
            return "float"
        if expected is None or any(mismatches(self.module, self.sites, expected)):
            return "unfinished"
        return "simulated"

    def save(self, folder: str | Path, force: bool = False) -> None:
        """Write the checkpoint; `force` replaces an existing one.

        Raises:
            UserError: as `to_checkpoint`, or no recipe says what the model should be.
        """
        if self.expected is None:
            raise UserError(
                "The model cannot be saved: its provenance names no recipe, so nothing says which "
                'bits it should have. Put the recipe into provenance["recipe"] (Recipe.to_dict).'
            )
        checkpoint = self.to_checkpoint()
        write_checkpoint(folder, checkpoint.manifest, checkpoint.tensors, force)

    def to_checkpoint(self) -> Checkpoint:
        """Return manifest and tensors: packed codes, scales, zero points, float parts in fp16.

        Raises:
            UserError: the model is a legacy one, which has no codes to store, or it is not what
                its recipe says.
        """
        self._check_storable()
        tensors = dict(_float_tensors(self))
        described = {}
        for site in self.sites:
            description = _describe(self.module, site)
            if description["weight"] is not None or description["operands"]:
                described[site.path] = description
                tensors.update(_site_tensors(self.module, site))
        manifest = {
            "family": self.family.name,
            "model_config": self.module.config.to_dict(),
            "sites": described,
            **self.provenance,
        }
        return Checkpoint(manifest, tensors)

    def _check_storable(self) -> None:
        expected = self.expected
        if expected is not None and expected.legacy:
            raise UserError(
                "A legacy model is half float and cannot be saved; evaluate it instead."
            )
        wrong = next(mismatches(self.module, self.sites, expected), None)
        if wrong is None and expected is not None and is_float(self.module, self.sites):
            wrong = "nothing of it is quantized"
        if wrong is not None:
            raise UserError(f"The model is not what its recipe says and cannot be saved: {wrong}.")


def prepare(family: Family, model: nn.Module) -> Any:
    """Return a copy of a float model with empty slots, its parameters rounded to fp16.

    The rounding comes first because the checkpoint keeps float parts in fp16: what is calibrated
    and evaluated is then exactly what is loaded later.

    Raises:
        UserError: a parameter does not fit fp16.
    """
    prepared = copy.deepcopy(model).float()
    wrap_(family, prepared)
    for name, parameter in slots.quantized_parameters(prepared, family.sites(prepared)).items():
        parameter.requires_grad_(False)
        rounded = as_stored(parameter)
        if not bool(torch.isfinite(rounded).all()):
            raise UserError(f"{name} holds values beyond fp16's range (65504); it cannot be kept.")
        parameter.copy_(rounded)
    return prepared


def from_checkpoint(checkpoint: Checkpoint) -> QuantizedModel:
    """Rebuild the quantized model of a checkpoint, for simulated execution.

    Raises:
        UserError: the family or a grid is not known, or a tensor is missing.
    """
    manifest = checkpoint.manifest
    family, module = build_model(manifest["family"], manifest["model_config"])
    fill_(family, module, manifest["sites"], checkpoint.tensors)
    provenance = {
        key: value
        for key, value in manifest.items()
        if key not in ("format", "version", "family", "model_config", "sites", "weights_file")
    }
    return QuantizedModel(family, module.eval(), provenance)


def fill_(
    family: Family,
    module: Any,
    descriptions: Mapping[str, Mapping[str, Any]],
    tensors: Mapping[str, np.ndarray],
) -> None:
    """Wrap a model of transformers and give it the grids and the numbers of a checkpoint.

    Args:
        module: as it was built; whatever values it holds are replaced.
        descriptions: the manifest's sites.

    Raises:
        UserError: a site is not the model's, a grid is not known, or a tensor is missing.
    """
    wrap_(family, module)
    sites = {site.path: site for site in family.sites(module)}
    parameters: dict[str, Tensor] = {}
    for path, description in descriptions.items():
        if path not in sites:
            raise UserError(f"The checkpoint has a site {path} that its model lacks.")
        if description["weight"] is not None:
            parameters[f"{path}.weight"] = _load_weight_(module, sites[path], description, tensors)
        for operand, grid in description["operands"].items():
            loaded = load_grid(f"{path}.{operand}", grid, tensors, rows=False)
            slots.set_quantizer_(module, sites[path], operand, loaded)
    for name in slots.quantized_parameters(module, tuple(sites.values())):
        if name not in parameters:
            parameters[name] = _float_parameter(tensors, name)
    _assign_(module, tuple(sites.values()), parameters)
    centres = {path: each["centre"] for path, each in descriptions.items() if "centre" in each}
    load_centres_(module, centres, partial(_float_parameter, tensors))


def load_simulated(folder: str | Path) -> QuantizedModel:
    """Read a checkpoint folder into a quantized model."""
    return from_checkpoint(read_checkpoint(folder))


def _describe(module: Any, site: Site) -> dict[str, Any]:
    """Return a site's entry of the manifest."""
    weight, centre = None, {}
    layer = slots.weight_layer(module, site)
    if layer is not None and layer.weight_grid is not None:
        grid = layer.weight_grid
        weight = {**describe_grid(grid), "shape": list(layer.layer.weight.shape)}
    if layer is not None and layer.centre is not None:
        centre = {"centre": layer.centre.name}
    operands = {operand: describe_grid(grid) for operand, grid in _operand_grids(module, site)}
    described = {"kind": site.kind, "type": str(site.type), "weight": weight, "operands": operands}
    return described | centre


def _operand_grids(module: Any, site: Site) -> Iterator[tuple[str, Grid]]:
    for operand in slots.operands(site):
        grid = slots.quantizer(module, site, operand)
        if isinstance(grid, Grid):
            yield operand, grid


def _site_tensors(module: Any, site: Site) -> dict[str, np.ndarray]:
    tensors = {}
    if site.type is not SiteType.ATTENTION:
        layer = slots.layer(module, site)
        if layer.weight_grid is not None:
            codes = layer.weight_grid.codes(weight_to_rows(layer.layer, layer.layer.weight))
            packed = pack(codes.to(torch.uint8).cpu().numpy(), layer.weight_grid.bits)
            tensors[f"{site.path}.weight_packed"] = packed
            tensors.update(store_grid(f"{site.path}.weight", layer.weight_grid))
    for operand, grid in _operand_grids(module, site):
        tensors.update(store_grid(f"{site.path}.{operand}", grid))
    return tensors


def _float_tensors(model: QuantizedModel) -> Iterator[tuple[str, np.ndarray]]:
    quantized = {
        f"{site.path}.weight"
        for site in model.sites
        if site.type is not SiteType.ATTENTION
        and slots.layer(model.module, site).weight_grid is not None
    }
    for name, parameter in slots.quantized_parameters(model.module, model.sites).items():
        if name not in quantized:
            yield name, parameter.half().cpu().numpy()


def _load_weight_(
    module: Any, site: Site, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> Tensor:
    """Set a layer's weight grid and return its weight, in the original shape."""
    weight = description["weight"]
    _, columns = weight_rows(description["type"], weight["shape"])
    codes = unpack(tensors[f"{site.path}.weight_packed"], weight["bits"], columns)
    grid = load_grid(f"{site.path}.weight", weight, tensors, rows=True)
    if not isinstance(grid, UniformGrid):
        raise UserError(
            f"The weight of {site.path} has a {grid.name} grid; weights have uniform ones. "
            "Quantize the model again."
        )
    layer = slots.layer(module, site)
    layer.weight_grid = grid
    rows = grid.values(torch.from_numpy(codes).float())
    return rows_to_weight(layer.layer, rows, layer.layer.weight.shape)


def _float_parameter(tensors: Mapping[str, np.ndarray], name: str) -> Tensor:
    if name not in tensors:
        raise UserError(f"The checkpoint lacks {name}; it does not fit its model_config.")
    return torch.from_numpy(tensors[name].astype(np.float32))


def _assign_(module: Any, sites: tuple[Site, ...], parameters: Mapping[str, Tensor]) -> None:
    """Replace the parameters of a module that was built on the meta device."""
    replacements = {}
    for name, parameter in slots.quantized_parameters(module, sites).items():
        value = parameters[name].contiguous()
        if value.shape != parameter.shape:
            raise UserError(
                f"{name} has shape {tuple(value.shape)} in the checkpoint, "
                f"{tuple(parameter.shape)} in its model."
            )
        replacements[id(parameter)] = nn.Parameter(value, requires_grad=False)
    for holder in module.modules():  # a parameter that two modules share stays shared
        for name, parameter in list(holder.named_parameters(recurse=False)):
            holder.register_parameter(name, replacements[id(parameter)])
