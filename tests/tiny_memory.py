"""What the three steps of a tracker make of random numbers, for a tiny SAM 2."""

from typing import Any, NamedTuple

import numpy as np
from tiny_clips import WIDTH, entries

from carsam.engines.base import Embedding
from carsam.engines.video import Recollection
from carsam.images.prompts import Prompts


class Given(NamedTuple):
    """Arguments of the steps, for two objects or one."""

    pixels: np.ndarray
    embedding: Embedding
    memory: Recollection
    masks: np.ndarray
    scores: np.ndarray
    points: Prompts
    prompt_masks: Prompts


def random_arguments(objects: int = 2) -> Given:
    random = np.random.default_rng(2)

    def draw(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    given = {name: tensor.numpy() for name, tensor in entries().items()}
    tokens = draw(len(given["memory_cells"]), WIDTH)
    places = np.array([[[9, 70]], [[50, 30]]], np.float32)[:objects]
    return Given(
        draw(3, 128, 128),
        (draw(64, 8, 8), draw(16, 16, 16), draw(8, 32, 32)),
        Recollection(tokens, given["memory_positions"], given["memory_cells"]),
        20 * draw(objects, 128, 128),
        np.array([[3.0], [-1.0]], np.float32)[:objects],
        Prompts(places, np.array([[1], [0]])[:objects]),
        Prompts(places, -np.ones((objects, 1), np.int64), masks=draw(objects, 32, 32)),
    )


def tracked(engine: Any) -> dict[str, tuple[np.ndarray, ...]]:
    """Return what each step makes of the same numbers, whatever the others made."""
    given = random_arguments()
    found = {
        "encode": engine.encode(given.pixels),
        "recall": engine.recall(given.embedding, given.memory),
        "recall nothing": engine.recall(given.embedding, None),
        "remember": engine.remember(given.embedding, given.masks, given.scores),
    }
    for name, prompts in (("points", given.points), ("masks", given.prompt_masks)):
        for several in (True, False):
            found[f"{name} {several}"] = engine.track(given.embedding, prompts, several)
    return found
