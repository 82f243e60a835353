"""A tiny SAM, quantized without a method, as simulation and as checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from carsam.checkpoint import Checkpoint
from carsam.quant.packing import pack


@dataclass(frozen=True)
class QuantizedPair:
    """The same quantized model twice."""

    model: Any
    checkpoint: Checkpoint


@pytest.fixture
def quantized_pair(tiny_sam) -> Callable[..., QuantizedPair]:
    """Function that quantizes `tiny_sam` with min-max ranges of one random image.

    `weights` and `operands` give the bits of a site's path (and operand), or None for float.
    """
    import torch

    from carsam.families.sam import SamFamily
    from carsam.quant import slots
    from carsam.quant.grids import UniformGrid

    class Recorder(torch.nn.Module):
        def forward(self, values):
            self.range = torch.aminmax(values)
            return values

    @torch.no_grad()
    def quantize(weights: Callable, operands: Callable) -> QuantizedPair:
        tiny_sam.load_state_dict({k: v.half().float() for k, v in tiny_sam.state_dict().items()})
        family = SamFamily()
        sites = family.sites(tiny_sam)
        family.wrap_(tiny_sam)
        for site in sites:
            bits = None if site.type == "attention" else weights(site.path)
            if bits is not None:
                quantize_weight_(slots.layer(tiny_sam, site), bits)
            for operand in slots.operands(site):
                if operands(site.path, operand) is not None:
                    slots.set_quantizer_(tiny_sam, site, operand, Recorder())
        pixels, prompts = random_input(torch)
        tiny_sam(pixels, **prompts)
        for site in sites:
            for operand in slots.operands(site):
                recorder = slots.quantizer(tiny_sam, site, operand)
                if isinstance(recorder, Recorder):
                    low, high = (end.reshape(1) for end in recorder.range)
                    grid = UniformGrid.from_range(low, high, operands(site.path, operand))
                    slots.set_quantizer_(tiny_sam, site, operand, grid)
        return QuantizedPair(tiny_sam, export(tiny_sam, sites, slots))

    def quantize_weight_(layer, bits: int) -> None:
        from carsam.quant.layers import weight_to_rows

        rows = weight_to_rows(layer.layer, layer.layer.weight)
        low, high = torch.aminmax(rows, dim=1, keepdim=True)
        layer.quantize_weight_(UniformGrid.from_range(low, high, bits))

    return quantize


def random_input(torch: Any) -> tuple[Any, dict[str, Any]]:
    """Pixels (1, 3, 64, 64) and two points, one box and one mask for one prompt."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(1, 3, 64, 64, generator=generator)
    prompts = {
        "input_points": torch.tensor([[[[10.0, 20.0], [33.0, 4.0]]]]),
        "input_labels": torch.tensor([[[1, 0]]]),
        "input_boxes": torch.tensor([[[3.0, 4.0, 40.0, 50.0]]]),
        "input_masks": torch.randn(1, 1, 32, 32, generator=generator),
    }
    return pixels, prompts


def export(model: Any, sites: tuple, slots: Any) -> Checkpoint:
    """Write the model's grids and codes as a checkpoint in memory."""
    from carsam.quant.layers import weight_to_rows

    tensors: dict[str, np.ndarray] = {
        name: parameter.detach().numpy().astype(np.float16)
        for name, parameter in slots.quantized_parameters(model, sites).items()
    }
    table: dict[str, dict] = {}
    for site in sites:
        entry: dict = {"kind": site.kind, "type": str(site.type), "weight": None, "operands": {}}
        if site.type != "attention" and slots.layer(model, site).weight_grid is not None:
            layer = slots.layer(model, site)
            grid, weight = layer.weight_grid, layer.layer.weight
            codes = grid.codes(weight_to_rows(layer.layer, weight)).detach().numpy()
            tensors[f"{site.path}.weight_packed"] = pack(codes.astype(np.uint8), grid.bits)
            tensors[f"{site.path}.weight_scale"] = grid.scale.numpy().ravel()
            tensors[f"{site.path}.weight_zero_point"] = _bytes(grid.zero_point)
            entry["weight"] = {"grid": "uniform", "bits": grid.bits, "shape": [*weight.shape]}
            del tensors[f"{site.path}.weight"]
        for operand in slots.operands(site):
            grid = slots.quantizer(model, site, operand)
            if hasattr(grid, "bits"):
                tensors[f"{site.path}.{operand}_scale"] = grid.scale.numpy()
                tensors[f"{site.path}.{operand}_zero_point"] = _bytes(grid.zero_point)
                entry["operands"][operand] = {"grid": "uniform", "bits": grid.bits}
        table[site.path] = entry
    config = model.config.to_dict()
    return Checkpoint({"family": "sam", "model_config": config, "sites": table}, tensors)


def _bytes(tensor: Any) -> np.ndarray:
    return tensor.numpy().ravel().astype(np.uint8)
