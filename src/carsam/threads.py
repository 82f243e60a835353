"""How many threads to compute with: one number for torch, BLAS and the native kernels."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from threadpoolctl import threadpool_limits

from carsam.errors import UserError

MOST_THREADS = 1024

VARIABLE = "OMP_NUM_THREADS"

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

SetThreads = Callable[[int], object]

_pools: list[SetThreads] = []
_chosen: int | None = None
_replaced: tuple[str, str] | None = None
"""The user's variable and the number that `set_threads` has put in its place."""


def current_threads() -> int:
    """Return the number of threads that `set_threads` chose, else the default."""
    return default_threads() if _chosen is None else _chosen


def set_threads(count: int | None = None) -> int:
    """Let torch, BLAS and the native kernels compute on so many threads, now and once imported.

    Args:
        count: threads; `default_threads` unless given.

    Returns:
        The number in use from now on.

    Raises:
        UserError: there are no such numbers of threads.
    """
    global _chosen
    if count is None:
        count = default_threads()
    if not 1 <= count <= MOST_THREADS:
        raise UserError(f"{count} threads asked for; expected 1 to {MOST_THREADS}.")
    _chosen = count
    threadpool_limits(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    else:
        _replace_variable(str(count))  # torch reads it when it is imported
    for set_pool in _pools:
        set_pool(count)
    return count


def add_pool(set_pool: SetThreads) -> None:
    """Tell `set_pool` the number of threads, now and whenever it changes."""
    _pools.append(set_pool)
    set_pool(current_threads())


def default_threads() -> int:
    """Return the processors that this process may use, at most $OMP_NUM_THREADS."""
    bounds = [_processors(), _container_processors(), variable_threads(_variable())]
    return max(1, min(bound for bound in bounds if bound is not None))


def variable_threads(text: str) -> int | None:
    """Read `4` or, for nested parallelism, `4,2`; None for what is no number of threads."""
    first = text.split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def quota_v2(text: str) -> int | None:
    """Read `cpu.max` of a control group, version 2: quota and period in microseconds."""
    quota, _, period = text.strip().partition(" ")
    return quota_v1(quota, period or "100000")


def quota_v1(quota: str, period: str) -> int | None:
    """Return the processors of `cpu.cfs_quota_us` and `cpu.cfs_period_us`, None without limit."""
    try:
        processors = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return math.ceil(processors) if processors > 0 else None


def container_processors(membership: str, root: Path) -> int | None:
    """Return the least of the quotas of a process's control groups and those above them.

    Args:
        membership: content of `/proc/self/cgroup`.
        root: where control groups are mounted. A container may see its own group there.
    """
    quotas = []
    for line in membership.splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            quotas += [quota_v2(_read(group / "cpu.max")) for group in _groups(root, path)]
        elif "cpu" in controllers.split(","):
            for mounted in {"cpu", controllers}:
                for group in _groups(root / mounted, path):
                    period = _read(group / "cpu.cfs_period_us")
                    quotas.append(quota_v1(_read(group / "cpu.cfs_quota_us"), period))
    return min((quota for quota in quotas if quota is not None), default=None)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _container_processors() -> int | None:
    return container_processors(_read(MEMBERSHIP), CGROUPS)


def _variable() -> str:
    """Return the user's $OMP_NUM_THREADS, whatever `set_threads` has put in its place."""
    found = os.environ.get(VARIABLE, "")
    return _replaced[0] if _replaced is not None and found == _replaced[1] else found


def _replace_variable(text: str) -> None:
    global _replaced
    _replaced = _variable(), text
    os.environ[VARIABLE] = text


def _groups(root: Path, path: str) -> Iterator[Path]:
    """Yield a control group's folder, and all above it up to the root."""
    group = root / path.lstrip("/")
    yield group
    while group != root and root in group.parents:
        group = group.parent
        yield group


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
