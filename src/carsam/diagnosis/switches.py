"""A model whose quantized operands can be switched on and off one by one."""

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from carsam.families.base import Site
from carsam.grids.base import UniformGrid
from carsam.simulation import slots
from carsam.simulation.model import QuantizedModel, prepare

WEIGHT = "weight"
Operand = tuple[str, str]
"""Path of a site, and the name of one of its operands or `weight` (with its bias)."""


class SwitchedModel:
    """A model whose operands are float or those of its quantized self, as chosen.

    Where the recipe changed more than weights and their rounding (norms, embeddings), weights of
    the two cannot be mixed: all weights are then the quantized model's (`weights_stay`), and only
    activations are switched.

    Attributes:
        module: the model that is switched.
        reference: the float model; `module` itself unless weights stay.

    Args:
        quantized: as `quantize` or `load_simulated` return it.
        float_module: the transformers model that it was made from.
        device: where both are moved to.
    """

    def __init__(
        self, quantized: QuantizedModel, float_module: nn.Module, device: str = "cpu"
    ) -> None:
        self.family, self.device = quantized.family, torch.device(device)
        self.reference: Any = prepare(quantized.family, float_module).to(self.device)
        quantized.module.to(self.device)
        self.weights_stay = _changed_elsewhere(quantized, self.reference)
        self.module = copy.deepcopy(quantized.module) if self.weights_stay else self.reference
        self._sites = {site.path: site for site in quantized.sites}
        self._grids: dict[Operand, nn.Module] = {}
        self._weights: dict[str, tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = {}
        self._weight_grids: dict[str, UniformGrid] = {}
        for site in quantized.sites:
            for operand in slots.operands(site):
                grid = slots.quantizer(quantized.module, site, operand)
                if not isinstance(grid, nn.Identity):
                    self._grids[site.path, operand] = grid
            layer = None if self.weights_stay else slots.weight_layer(quantized.module, site)
            if layer is not None and layer.weight_grid is not None:
                own = slots.layer(self.module, site).layer
                self._weights[site.path] = (_parameters(own), _parameters(layer.layer))
                self._weight_grids[site.path] = layer.weight_grid

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Everything that can be switched."""
        return (*((path, WEIGHT) for path in self._weights), *self._grids)

    def switch_(self, on: Collection[Operand]) -> None:
        """Quantize the operands given, and no others."""
        for operand, grid in self._grids.items():
            path, name = operand
            module = grid if operand in on else nn.Identity()
            slots.set_quantizer_(self.module, self._sites[path], name, module)
        for path, (floats, rounded) in self._weights.items():
            layer, is_on = slots.layer(self.module, self._sites[path]), (path, WEIGHT) in on
            layer.weight_grid = self._weight_grids[path] if is_on else None
            for name, value in (rounded if is_on else floats).items():
                getattr(layer.layer, name).data.copy_(value)

    def of_sites(self, sites: Collection[Site]) -> tuple[Operand, ...]:
        """Return the operands of some sites."""
        paths = {site.path for site in sites}
        return tuple(operand for operand in self.operands if operand[0] in paths)


def _changed_elsewhere(quantized: QuantizedModel, reference: nn.Module) -> bool:
    """Tell whether parameters that belong to no site differ, as far as a checkpoint keeps them."""
    ours = dict(quantized.module.named_parameters())
    places = tuple(f"{site.path}." for site in quantized.sites)
    return any(
        not torch.equal(ours[name].half(), parameter.half())
        for name, parameter in reference.named_parameters()
        if not name.startswith(places)
    )


def _parameters(layer: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
