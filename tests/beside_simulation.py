"""The native engine beside the simulation, which shares no code with it."""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine
from carsam.families.registry import family_of
from carsam.formats.checkpoint import Checkpoint
from carsam.images.prompts import Prompts

IMAGES = 5
EXACT, FEW_TIES, TIES = 1e-5, 0.02, 0.1

POINTS = np.array([[[10, 20], [33, 4]], [[50, 60], [1, 2]], [[5, 5], [9, 31]]], np.float32)
LABELS = np.array([[1, 0], [1, -10], [0, -1]])
BOXES = np.array([[3, 4, 40, 50], [8, 1, 60, 22], [0, 0, 64, 64]], np.float32)
MASKS = np.random.default_rng(3).normal(size=(3, 32, 32)).astype(np.float32)
PROMPTS = {
    "points": Prompts(points=POINTS, labels=LABELS),
    "boxes": Prompts(boxes=BOXES),
    "points and boxes": Prompts(points=POINTS, labels=LABELS, boxes=BOXES),
    "boxes and masks": Prompts(boxes=BOXES, masks=MASKS),
    "masks": Prompts(masks=MASKS),
    "nothing": Prompts(),
}
"""For images of 64 pixels or more, and masks of 32."""


def assert_same(
    model: Any,
    checkpoint: Checkpoint,
    kinds: Iterable[str] = ("points and boxes",),
    multimask_outputs: Iterable[bool] = (True,),
    tolerance: float = FEW_TIES,
) -> None:
    """Embeddings, masks and IoUs are the simulation's on all images, where weights are integers.

    With float weights two images at least must be the same, and the others within `tolerance`.
    Sums of floats have an order of their own in each engine. It may move a number that lies
    half-way between two codes to the other one, and the layers after it spread that.
    """
    simulated = TorchEngine(family_of(model.config.model_type), model, "simulated")
    native = NativeEngine(checkpoint)
    side = native.framing.side
    images = np.random.default_rng(7).normal(size=(IMAGES, 3, side, side)).astype(np.float32)
    decodings = [*itertools.product(kinds, multimask_outputs)]
    errors = defaultdict(list)
    for pixels in images:
        embedding = simulated.encode(pixels)
        outputs = {"embedding": (native.encode(pixels), embedding)}
        for kind, multimask_output in decodings:
            given = embedding, PROMPTS[kind], multimask_output
            outputs[f"{kind}, {multimask_output}"] = native.decode(*given), simulated.decode(*given)
        for name, pair in outputs.items():
            for index, (found, expected) in enumerate(zip(*pair, strict=True)):
                errors[name, index].append(relative_error(found, expected))
    sites = checkpoint.manifest["sites"].values()
    float_weights = any(site["weight"] is None and site["type"] != "attention" for site in sites)
    exact = 2 if float_weights else IMAGES
    for output, of_images in errors.items():
        assert sorted(of_images)[exact - 1] < EXACT, (output, of_images)
        assert max(of_images) < tolerance, (output, of_images)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square of the difference over that of `expected`."""
    assert found.shape == expected.shape
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))
