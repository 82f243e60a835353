"""Arrays whose memory is kept for reuse."""

import gc

import numpy as np
import pytest

native = pytest.importorskip("carsam.runtime.native")
LARGE = (512, 1024)


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
