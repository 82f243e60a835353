"""Kinds of workers by name; a new one is a line here and a file beside it."""

from collections.abc import Callable

from carsam.annotation.job import Job
from carsam.annotation.workers.base import Workers
from carsam.annotation.workers.processes import ProcessWorkers
from carsam.annotation.workers.ray_actors import RayWorkers
from carsam.errors import UserError

WorkerKind = Callable[[Job, int], Workers]
"""Makes the workers of a job, and is told how many there are going to be."""

WORKERS: dict[str, WorkerKind] = {"processes": ProcessWorkers, "ray": RayWorkers}


def find_workers(name: str) -> WorkerKind:
    """Return the workers of that name; UserError names the known ones."""
    if name not in WORKERS:
        raise UserError(f"Unknown workers {name!r}; expected one of {', '.join(WORKERS)}.")
    return WORKERS[name]
