"""The one number of threads, and what bounds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carsam.errors import UserError
from carsam.threads import (
    VARIABLE,
    container_processors,
    current_threads,
    default_threads,
    quota_v1,
    quota_v2,
    set_threads,
    variable_threads,
)


@pytest.mark.parametrize(
    ("text", "processors"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("50000", 1),
        ("", None),
        ("max", None),
        ("nonsense here", None),
        ("0 0", None),
    ],
)
def test_cpu_max_of_version_2_is_rounded_up(text: str, processors: int | None) -> None:
    assert quota_v2(text) == processors


@pytest.mark.parametrize(
    ("quota", "period", "processors"),
    [("-1\n", "100000\n", None), ("250000\n", "100000\n", 3), ("", "", None), ("5", "0", None)],
)
def test_quota_of_version_1_is_rounded_up(quota, period, processors) -> None:
    assert quota_v1(quota, period) == processors


@pytest.mark.parametrize(
    ("text", "threads"),
    [("4", 4), (" 3 ", 3), ("4,2", 4), ("", None), ("0", None), ("-2", None), ("many", None)],
)
def test_omp_num_threads(text: str, threads: int | None) -> None:
    assert variable_threads(text) == threads


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_group_above_bounds_too(tmp_path) -> None:
    write(tmp_path / "cpu.max", "max 100000")
    write(tmp_path / "pods" / "cpu.max", "300000 100000")
    write(tmp_path / "pods" / "mine" / "cpu.max", "max 100000")
    assert container_processors("0::/pods/mine\n", tmp_path) == 3
    assert container_processors("0::/\n", tmp_path) is None


@pytest.mark.parametrize("mounted", ["cpu", "cpu,cpuacct"])
def test_a_group_of_version_1(tmp_path, mounted: str) -> None:
    group = tmp_path / mounted / "docker" / "abc"
    write(group / "cpu.cfs_quota_us", "150000\n")
    write(group / "cpu.cfs_period_us", "100000\n")
    membership = "11:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
    assert container_processors(membership, tmp_path) == 2


def test_a_container_that_sees_its_own_group_as_the_root(tmp_path) -> None:
    write(tmp_path / "cpu.max", "100000 100000")
    assert container_processors("0::/../../system.slice/docker.scope\n", tmp_path) == 1
    assert container_processors("0::/not/mounted/here\n", tmp_path) == 1


@pytest.mark.parametrize("text", ["", "nonsense", "0:", "::\n"])
def test_a_membership_that_is_none(tmp_path, text: str) -> None:
    assert container_processors(text, tmp_path) is None


@pytest.fixture
def restored(monkeypatch):
    """Restores what `set_threads` changes."""
    import torch
    from threadpoolctl import threadpool_limits

    before, torch_before = current_threads(), torch.get_num_threads()
    monkeypatch.setenv(VARIABLE, os.environ.get(VARIABLE, ""))
    with threadpool_limits():
        yield
    set_threads(before)
    torch.set_num_threads(torch_before)


def test_torch_blas_and_kernels_get_the_same(restored) -> None:
    import threadpoolctl
    import torch

    from carsam.runtime import kernels

    for count in (3, 1):
        assert set_threads(count) == count
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {count}
        assert (torch.get_num_threads(), kernels.threads(), current_threads()) == (count,) * 3


def test_the_default_is_the_users_again_after_another_number(restored, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    set_threads(7)
    assert default_threads() == 1
    assert set_threads() == 1


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_a_number_that_is_none_is_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"{count} threads"):
        set_threads(count)


SAY = "from carsam.runtime import kernels; print(kernels.threads())"


def threads_of(program: str, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env={**kept, **variables}, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_omp_num_threads_bounds_the_kernels_of_a_library_user() -> None:
    pytest.importorskip("carsam.runtime._kernels")
    assert threads_of(SAY, OMP_NUM_THREADS="1") == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_affinity_bounds_the_kernels_of_a_library_user() -> None:
    pytest.importorskip("carsam.runtime._kernels")
    one = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    assert threads_of(one + SAY) == "1"


def test_what_is_chosen_before_the_kernels_are_imported_reaches_them() -> None:
    pytest.importorskip("carsam.runtime._kernels")
    assert threads_of("from carsam.threads import set_threads; set_threads(3)\n" + SAY) == "3"


def test_what_is_chosen_before_torch_is_imported_reaches_it() -> None:
    program = (
        "from carsam.threads import default_threads, set_threads\n"
        "before = default_threads(); set_threads(1); assert default_threads() == before\n"
        "import torch; print(torch.get_num_threads())"
    )
    assert threads_of(program) == "1"
