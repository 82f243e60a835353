"""The thread pool of the C++ operators."""

import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

from carsam.runtime.grids import CodeGrid

_kernels = pytest.importorskip("carsam.runtime._kernels")
native = pytest.importorskip("carsam.runtime.native")
GRID = CodeGrid(np.float32(0.01), 3, 4)


@pytest.fixture(autouse=True)
def two_threads():
    before = _kernels.threads()
    _kernels.set_threads(2)
    yield
    _kernels.set_threads(before)


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


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_system_that_gives_no_more_threads_is_no_error() -> None:
    program = (
        "import resource, numpy as np\n"
        "from carsam.runtime import kernels\n"
        "from carsam.runtime.grids import CodeGrid\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "kernels.set_threads(1024)\n"  # each takes 8 MB of addresses
        "kernels.quantize(np.ones((1024, 1024), np.float32), CodeGrid(np.float32(0.1), 0, 4))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
