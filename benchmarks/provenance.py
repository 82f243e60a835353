"""What a benchmark's result must say of itself: the machine, the versions, the command."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any


def provenance(*packages: str) -> dict[str, Any]:
    """Return processor, number of processors, system, versions of `packages`, and the command.

    Paths of the command are cut to their last part.
    """
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
        },
        "command": " ".join(["python", *(Path(argument).name for argument in sys.argv)]),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
