"""Tiny models, quantized without a method, as simulation and as checkpoint, with any grids."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from carsam.families.registry import family_of
from carsam.families.sam.family import SamFamily
from carsam.formats.checkpoint import Checkpoint
from carsam.grids import tables
from carsam.grids.base import Grid, UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.grouped import GroupedUniformGrid
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.methods.registry import make_recipe
from carsam.simulation import slots
from carsam.simulation.layers import weight_to_rows
from carsam.simulation.model import QuantizedModel, prepare

TRAINING = ("reconstruct", "reconstruct-unfinished", "polish")
"""Steps of recipes whose parameter `steps` says how long they train."""


@dataclass(frozen=True)
class QuantizedPair:
    """The same quantized model twice."""

    model: Any
    checkpoint: Checkpoint


def quantized_pair(model: Any, weights: Callable, operands: Callable) -> QuantizedPair:
    """Quantize a SAM in its place with the ranges of one random image; see `quantize`."""
    vision = model.config.vision_config
    pixels, prompts = random_input(vision.image_size, 4 * vision.image_size // vision.patch_size)

    def run(model: Any) -> None:
        model(pixels, **prompts)

    return quantize(SamFamily(), model, run, weights, operands)


@torch.no_grad()
def quantize(
    family: Any, model: Any, run: Callable, weights: Callable, operands: Callable
) -> QuantizedPair:
    """Quantize a model in its place with the ranges that its operands have while `run` runs it.

    Args:
        weights: bits of the weight at a site's path; None keeps it in float.
        operands: bits of an operand at a site's path.
    """
    model = prepare(family, model)
    for site in family.sites(model):
        bits = None if site.type == "attention" else weights(site.path)
        if bits is not None:
            quantize_weight_(slots.layer(model, site), bits)
        for operand in slots.operands(site):
            if operands(site.path, operand) is not None:
                slots.set_quantizer_(model, site, operand, Recorder())
    run(model)
    for site in family.sites(model):
        for operand in slots.operands(site):
            recorder = slots.quantizer(model, site, operand)
            if isinstance(recorder, Recorder):
                low, high = (end.reshape(1) for end in recorder.range)
                grid = UniformGrid.from_range(low, high, operands(site.path, operand))
                slots.set_quantizer_(model, site, operand, grid)
    return QuantizedPair(model, QuantizedModel(family, model).to_checkpoint())


def few_steps(name: str) -> list[str]:
    """Settings with which a recipe's training takes two steps."""
    steps = {step.name for step in make_recipe(name, "w4a4").all_steps}
    return [f"{step}.steps=2" for step in TRAINING if step in steps]


class Recorder(torch.nn.Module):
    """Keeps the range of what passes."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.range = torch.aminmax(values)
        return values


def quantize_weight_(layer: Any, bits: int) -> None:
    rows = weight_to_rows(layer.layer, layer.layer.weight)
    low, high = torch.aminmax(rows, dim=1, keepdim=True)
    layer.weight_grid = UniformGrid.from_range(low, high, bits)
    layer.round_weight_()


def random_input(side: int, mask_side: int) -> tuple[Any, dict[str, Any]]:
    """Pixels (1, 3, side, side) and two points, one box and one mask for one prompt."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(1, 3, side, side, generator=generator)
    prompts = {
        "input_points": torch.tensor([[[[10.0, 20.0], [33.0, 4.0]]]]),
        "input_labels": torch.tensor([[[1, 0]]]),
        "input_boxes": torch.tensor([[[3.0, 4.0, 40.0, 50.0]]]),
        "input_masks": torch.randn(1, 1, mask_side, mask_side, generator=generator),
    }
    return pixels, prompts


def with_grids(pair: Any, replacement: Callable) -> tuple[Any, Checkpoint]:
    """The pair with other grids where `replacement(site, operand, grid)` returns one."""
    family = family_of(pair.model.config.model_type)
    for site in family.sites(pair.model):
        for operand in slots.operands(site):
            grid = slots.quantizer(pair.model, site, operand)
            found = replacement(site, operand, grid) if isinstance(grid, Grid) else None
            if found is not None:
                slots.set_quantizer_(pair.model, site, operand, found)
    return pair.model, QuantizedModel(family, pair.model).to_checkpoint()


def row_maximum(bits: int) -> Grid:
    return RowMaximumGrid.curved(20.0, bits)


def log2(bits: int) -> Grid:
    return tables.LogGrid(torch.tensor([0.9]), 2, bits)


def log1p(bits: int) -> Grid:
    return tables.Log1pGrid(torch.tensor([0.8]), torch.tensor([30.0]), bits)


def twin(bits: int) -> Grid:
    return tables.TwinUniformGrid(torch.tensor([0.6 / 2**bits]), 2, 0, bits)


def signed_twin(grid: Grid) -> Grid:
    return tables.TwinUniformGrid(0.5 * grid.scale, 2, 1, grid.bits)


def log_uniform(grid: Grid) -> Grid:
    extent = grid.scale * grid.levels
    codes = grid.levels // 4 + 1
    scale = torch.cat([0.2 * extent, 0.8 * extent / (grid.levels + 1 - codes)])
    return tables.LogUniformGrid(scale, -grid.zero_point * grid.scale, codes, grid.bits)


def grouped(grid: Grid, channels: int) -> Grid:
    scale = torch.cat([grid.scale, 0.7 * grid.scale, 2 * grid.scale])
    group = torch.arange(channels) % 5 % 2  # nothing in the third group
    return GroupedUniformGrid(scale, grid.zero_point.expand(3), group, grid.bits)


def codebook(grid: Grid, bits: int) -> CodebookGrid:
    """Of entries that lie the denser, the nearer to the zero point."""
    zero = int(grid.zero_point)
    ends = max(zero, 1) ** 0.5, max(255 - zero, 1) ** 0.5
    roots = torch.linspace(-ends[0], ends[1], 2**bits)
    entries = (zero + roots.sign() * roots.square()).round().clamp(0, 255)
    entries[(entries - zero).abs().argmin()] = zero
    return CodebookGrid(grid.scale, grid.zero_point, entries, bits)
