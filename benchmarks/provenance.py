"""What a benchmark's result must say of itself: the machine, the versions, the command."""

import importlib.metadata
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from carsam.benchmark.machine import hardware


def provenance(*packages: str) -> dict[str, Any]:
    """Return processor, number of processors, system, versions of `packages`, and the command.

    Paths of the command, also in lists with commas, are cut to their last part.
    """
    return {
        **hardware(),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
        },
        "command": shlex.join(["python", *map(_without_folders, sys.argv)]),
    }


def _without_folders(argument: str) -> str:
    return ",".join(Path(part).name for part in argument.split(","))
