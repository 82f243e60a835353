"""Arrays whose memory is kept for reuse."""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

native = pytest.importorskip("carsam.runtime.native")
LARGE = (512, 1024)
SOURCES = Path(__file__).parents[2] / "csrc"


def test_arrays_in_use_share_no_memory() -> None:
    first, second = native.empty(LARGE), native.empty(LARGE)
    assert not np.shares_memory(first, second)


def test_a_view_keeps_the_memory() -> None:
    array = native.empty(LARGE)
    array[:] = 7
    row = array[3]
    del array
    gc.collect()
    native.empty(LARGE)[:] = 0
    assert (row == 7).all()


def test_freed_memory_is_used_again() -> None:
    array = native.empty(LARGE)
    place = array.__array_interface__["data"][0]
    del array
    places = [native.empty(LARGE).__array_interface__["data"][0] for _ in range(5)]
    assert min(abs(other - place) for other in places) < 4096


def test_arrays_have_the_shape_and_type_asked_for() -> None:
    array = native.empty((3, 1 << 16), np.uint8)
    assert (array.shape, array.dtype, array.flags.writeable) == ((3, 1 << 16), np.uint8, True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_process_forked_while_others_allocate_works_on(tmp_path) -> None:
    """In C++, because Python forks with its lock held, so that no other thread allocates."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None or not SOURCES.is_dir():
        pytest.skip("needs a C++ compiler and the sources")
    program = tmp_path / "fork_under_load"
    sources = [Path(__file__).parent / "fork_under_load.cpp"]
    sources += [SOURCES / name for name in ("memory.cpp", "threads.cpp")]
    command = [compiler, "-std=c++17", "-O1", "-pthread", f"-I{SOURCES}", *sources, "-o", program]
    without_sanitizers = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    subprocess.run(command, check=True, env=without_sanitizers)
    assert subprocess.run([program], env=without_sanitizers, timeout=300).returncode == 0
