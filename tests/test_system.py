"""What the operating system and its C library are asked for."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import numpy as np
from carsam.system import keep_freed_memory
keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.empty(1 << 26, np.uint8)[:] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc's allocator")
def test_large_arrays_get_the_pages_of_those_that_were_freed() -> None:
    faults = subprocess.check_output([sys.executable, "-c", COUNT_FAULTS], text=True)
    assert int(faults) < 100  # 5440 without
