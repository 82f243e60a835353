"""Inputs to calibrate other runtimes on. Ranges decide accuracy, which is not measured here."""

from collections.abc import Mapping, Sequence

import numpy as np

from carsam.benchmark import inputs

IMAGES = 1


def calibration_inputs(shapes: Mapping[str, Sequence[int]]) -> list[dict[str, np.ndarray]]:
    """Return inputs by name for a model with inputs of `shapes`."""
    return [
        {name: _example(name, shape, seed) for name, shape in shapes.items()}
        for seed in range(IMAGES)
    ]


def _example(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    if name != "boxes":
        return np.random.default_rng(seed).standard_normal(shape, np.float32)
    prompts = inputs.boxes(shape[1], 512, seed)
    assert prompts.boxes is not None
    return prompts.boxes[None]
