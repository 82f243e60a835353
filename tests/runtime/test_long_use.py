"""One engine used for long, and by several threads at once."""

import threading

import numpy as np
import pytest

from carsam.engines.native_engine import NativeEngine
from carsam.predict.predictor import SamPredictor
from carsam.system import peak_memory

BOX = np.array([10, 10, 80, 70])


@pytest.fixture
def engine(quantized_pair) -> NativeEngine:
    return NativeEngine(quantized_pair(lambda path: 4, lambda *_: 4).checkpoint)


def masks(engine: NativeEngine, photo: np.ndarray) -> np.ndarray:
    predictor = SamPredictor(engine)
    predictor.set_image(photo)
    return predictor.predict(box=BOX, return_logits=True)[0]


def test_predictors_in_several_threads_give_the_masks_of_one(engine, photo) -> None:
    photos = [np.roll(photo, 20 * index, axis=1) for index in range(4)]
    expected = [masks(engine, one) for one in photos]
    found: dict[tuple[int, int], np.ndarray] = {}

    def work(index: int) -> None:
        for turn in range(5):
            found[index, turn] = masks(engine, photos[index])

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    for (index, _), result in found.items():
        np.testing.assert_array_equal(result, expected[index])


def test_many_images_take_no_more_memory_than_a_few(engine, photo) -> None:
    for _ in range(5):
        masks(engine, photo)
    before = peak_memory()
    for index in range(20):
        masks(engine, np.roll(photo, index, axis=0))
    assert peak_memory() - before < 8e6
