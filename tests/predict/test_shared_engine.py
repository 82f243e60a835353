"""Threads that share an engine, each with a predictor of its own, as docs/images.md shows it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from carsam.engines.load import load
from carsam.predict.predictor import SamPredictor

BOXES = np.array([[10, 10, 80, 70], [30, 5, 110, 85], [0, 0, 60, 40]])
THREADS = 4


def answers(predictor: SamPredictor, image: np.ndarray) -> list[np.ndarray]:
    """Logits of boxes, and of points that build on the first answer's mask."""
    predictor.set_image(image)
    boxes = predictor.predict_batch(BOXES, return_logits=True)
    earlier = boxes[2][0]
    points = predictor.predict([[40, 30]], [1], mask_input=earlier, return_logits=True)
    return [*boxes, *points]


@pytest.mark.parametrize("name", ["native", "simulated", "float"])
def test_threads_with_one_engine_give_the_masks_of_one_thread(run, tiny_sam, photo, name) -> None:
    if name == "float":
        from carsam.engines.torch_engine import TorchEngine
        from carsam.families.sam.family import SamFamily

        engine = TorchEngine(SamFamily(), tiny_sam, "float")
    else:
        engine = load(run, name)
    images = [np.roll(photo, 9 * index, axis=1) for index in range(3 * THREADS)]
    expected = [answers(SamPredictor(engine), image) for image in images]

    def work(thread: int) -> list[list[np.ndarray]]:
        predictor = SamPredictor(engine)
        return [answers(predictor, image) for image in images[thread::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(THREADS)))
    for thread in range(THREADS):
        for ours, theirs in zip(found[thread], expected[thread::THREADS], strict=True):
            for parts in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(*parts)
