"""What the operating system and its C library are asked for."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import numpy as np
from carsam.system import freed_memory
freed_memory.keep()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.empty(1 << 26, np.uint8)[:] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


FREED_BETWEEN = """
import numpy as np
from carsam.system import freed_memory, resident_memory
freed_memory.keep()
freed_memory.limit()
before = resident_memory()
blocks = [np.ones(size, np.uint8) for _ in range(40) for size in (30_000_000, 100_000)]
del blocks[::2]
kept = resident_memory() - before
freed_memory.limit()
print(kept, resident_memory() - before)
"""
ON_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")


@ON_GLIBC
def test_large_arrays_get_the_pages_of_those_that_were_freed() -> None:
    faults = subprocess.check_output([sys.executable, "-c", COUNT_FAULTS], text=True)
    assert int(faults) < 100  # 5440 without


@ON_GLIBC
def test_what_is_freed_is_returned_once_the_process_has_grown() -> None:
    sizes = subprocess.check_output([sys.executable, "-c", FREED_BETWEEN], text=True)
    kept, left = map(int, sizes.split())
    assert kept > 1_000_000_000
    assert left < 50_000_000  # 4 million of them are in use
