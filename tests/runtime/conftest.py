"""Instruction sets in turn, and a tiny SAM 2, quantized without a method."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

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


@pytest.fixture
def quantized_sam2(tiny_sam2) -> Callable:
    """Function that quantizes `tiny_sam2`, or another `model`; see `tiny_runs.quantize`."""
    from tiny_runs import quantize

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

    def quantized(weights: Callable, operands: Callable, model: Any = None) -> Any:
        return quantize(Sam2Family(), model or tiny_sam2, run, weights, operands)

    return quantized
