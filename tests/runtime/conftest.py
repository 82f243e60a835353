"""Instruction sets in turn."""

from collections.abc import Iterator

import pytest

try:
    from carsam.runtime import _kernels
except ImportError:  # its tests skip themselves then
    USABLE_SETS: list[str] = []
else:
    USABLE_SETS = _kernels.usable_sets()


@pytest.fixture(params=USABLE_SETS, scope="module")
def instruction_set(request) -> Iterator[str]:
    """Every instruction set that this machine executes in turn, as a module's kernels use it."""
    before = _kernels.current_set(), _kernels.threads()
    _kernels.use_set(request.param)
    _kernels.set_threads(2)  # whatever the environment says
    yield request.param
    _kernels.use_set(before[0])
    _kernels.set_threads(before[1])
