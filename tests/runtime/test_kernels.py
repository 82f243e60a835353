"""The switch between the C++ operators and numpy, and between instruction sets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carsam.errors import UserError
from carsam.runtime import kernels


def run(program: str, **environment: str) -> str:
    """Standard output of a Python program."""
    variables = {**os.environ, **environment}
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=variables, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_numpy_takes_over_without_the_extension() -> None:
    program = (
        "import sys; sys.modules['carsam.runtime._kernels'] = None\n"
        "from carsam.runtime import kernels, reference\n"
        "assert kernels.linear is reference.linear\n"
        "print(kernels.instruction_set())"
    )
    assert run(program) == "numpy"


def test_the_environment_forces_an_instruction_set() -> None:
    pytest.importorskip("carsam.runtime._kernels")
    program = "from carsam.runtime import kernels; print(kernels.instruction_set())"
    assert run(program, CARSAM_ISA="portable") == "portable"


def test_an_instruction_set_that_cannot_run_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="Instruction set abacus"):
        kernels.use_instruction_set("abacus")


def test_every_compiled_instruction_set_is_tested_here() -> None:
    _kernels = pytest.importorskip("carsam.runtime._kernels")
    untested = set(_kernels.compiled_sets()) - set(_kernels.usable_sets())
    if untested:
        pytest.skip(f"compiled, but this machine cannot execute {', '.join(sorted(untested))}")


def test_amx_runs_where_the_processor_has_it() -> None:
    _kernels = pytest.importorskip("carsam.runtime._kernels")
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "amx_int8" not in cpuinfo.read_text().split():
        pytest.skip("this processor has no AMX")
    assert "amx" in _kernels.usable_sets()


def test_emulated_registers_are_used_only_on_request() -> None:
    sets = pytest.importorskip("carsam.runtime._kernels").usable_sets()
    if "amx-emulated" not in sets:
        pytest.skip("this build has no emulated registers")
    assert sets.index("portable") < sets.index("amx-emulated")


def test_refuses_to_run_on_no_threads() -> None:
    with pytest.raises(UserError, match="0 threads"):
        kernels.set_threads(0)
