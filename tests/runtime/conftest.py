"""Tiny models, quantized without a method, as simulation and as checkpoint."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from carsam.formats.checkpoint import Checkpoint

try:
    from carsam.runtime import _kernels
except ImportError:  # its tests skip themselves then
    USABLE_SETS: list[str] = []
else:
    USABLE_SETS = _kernels.usable_sets()


@pytest.fixture(params=USABLE_SETS, scope="module")
def instruction_set(request) -> Iterator[str]:
    """Every instruction set that this machine executes in turn, as a module's kernels use it."""
    before = _kernels.current_set(), _kernels.threads()
    _kernels.use_set(request.param)
    _kernels.set_threads(2)  # whatever the environment says
    yield request.param
    _kernels.use_set(before[0])
    _kernels.set_threads(before[1])


@dataclass(frozen=True)
class QuantizedPair:
    """The same quantized model twice."""

    model: Any
    checkpoint: Checkpoint


@pytest.fixture
def quantized_pair(tiny_sam) -> Callable[..., QuantizedPair]:
    """Function that quantizes `tiny_sam` with the ranges of one random image.

    It takes two functions: bits of the weight at a site's path, and bits of an operand at a site's
    path; None keeps it in float.
    """
    import torch

    from carsam.families.sam.family import SamFamily

    def run(model: Any) -> None:
        pixels, prompts = random_input(torch)
        model(pixels, **prompts)

    return partial(quantize, SamFamily(), tiny_sam, run)


@pytest.fixture
def quantized_sam2(tiny_sam2) -> Callable[..., QuantizedPair]:
    """The same of `tiny_sam2`, or of another model that is given as `model`."""
    from carsam.engines.torch_engine import TorchEngine
    from carsam.families.sam2.family import Sam2Family
    from carsam.images.prompts import Prompts

    random = np.random.default_rng(1)
    pixels = random.normal(size=(3, 128, 128)).astype(np.float32)
    points = np.array([[[10.0, 20.0], [93.0, 4.0]]], np.float32)
    boxes = np.array([[3.0, 4.0, 90.0, 50.0]], np.float32)
    masks = random.normal(size=(1, 32, 32)).astype(np.float32)

    def run(model: Any) -> None:
        engine = TorchEngine(Sam2Family(), model, "simulated")
        prompts = Prompts(points, np.array([[1, 0]]), boxes, masks)
        engine.decode(engine.encode(pixels), prompts, True)

    def quantized(weights: Callable, operands: Callable, model: Any = None) -> QuantizedPair:
        return quantize(Sam2Family(), model or tiny_sam2, run, weights, operands)

    return quantized


def quantize(
    family: Any, model: Any, run: Callable, weights: Callable, operands: Callable
) -> QuantizedPair:
    """Quantize a model with the ranges that its operands have while `run` runs it."""
    import torch

    from carsam.grids.base import UniformGrid
    from carsam.simulation import slots
    from carsam.simulation.layers import weight_to_rows
    from carsam.simulation.model import QuantizedModel, prepare

    class Recorder(torch.nn.Module):
        def forward(self, values):
            self.range = torch.aminmax(values)
            return values

    def quantize_weight_(layer, bits: int) -> None:
        rows = weight_to_rows(layer.layer, layer.layer.weight)
        low, high = torch.aminmax(rows, dim=1, keepdim=True)
        layer.weight_grid = UniformGrid.from_range(low, high, bits)
        layer.round_weight_()

    with torch.no_grad():
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
