"""The thread pool of the C++ operators."""

import multiprocessing
import sys

import numpy as np
import pytest

from carsam.runtime.grids import Grid

native = pytest.importorskip("carsam.runtime.native")
GRID = Grid(np.float32(0.01), 3, 4)


def quantize_much() -> int:
    values = np.linspace(-1, 1, 1 << 20, dtype=np.float32).reshape(1024, 1024)
    return int(native.quantize(values, GRID).sum())


def _put_result(queue) -> None:
    queue.put(quantize_much())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_works_on() -> None:
    expected = quantize_much()  # the pool's threads exist before the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_put_result, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()
