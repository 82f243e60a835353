"""What every contender is given: one image, boxes, an embedding if it has none, from a seed."""

from collections.abc import Sequence

import numpy as np

from carsam.engines.base import Embedding
from carsam.images.prompts import Prompts

BATCHES = (1, 64)
"""Numbers of boxes that decoding is measured with."""


def pixels(image_size: int, seed: int = 0) -> np.ndarray:
    """Return normalised pixels (3, S, S) float32."""
    return _normal(seed, 3, image_size, image_size)


def embedding(shapes: Sequence[Sequence[int]], seed: int = 0) -> Embedding:
    """Return an embedding with parts of `shapes`; a SAM's ends in a norm, so it is near normal."""
    return tuple(_normal(seed, *shape) for shape in shapes)


def boxes(count: int, image_size: int, seed: int = 0) -> Prompts:
    """Return `count` boxes of all sizes within the image."""
    corners = np.random.default_rng(seed).uniform(0, image_size, (count, 2, 2))
    corners.sort(axis=1)
    return Prompts(boxes=corners.reshape(count, 4).astype(np.float32))


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
