"""Cells of a comparison as processes, some of them at the same time."""

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from carsam.comparison.cell import Cell
from carsam.formats.files import write_whole
from carsam.system import python_command


@contextmanager
def running(
    cells: Sequence[Cell], folder: Path, jobs: int
) -> Iterator[Iterator[tuple[Cell, dict[str, Any]]]]:
    """Give cells and their results as they finish; processes left at the end are stopped.

    Args:
        folder: gets the cells' files.
        jobs: processes at the same time.
    """
    processes: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(jobs) as pool:  # a thread per process, which waits for it
        futures = {pool.submit(_run, cell, folder, jobs, processes): cell for cell in cells}
        try:
            yield ((futures[future], future.result()) for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                if process.poll() is None:
                    process.terminate()


def _run(
    cell: Cell, folder: Path, jobs: int, processes: list[subprocess.Popen[str]]
) -> dict[str, Any]:
    path = folder / f"{cell.name}.json"
    write_whole(path, json.dumps(cell.to_json(), indent=1) + "\n", "Make room.")
    command = [*python_command("carsam.comparison.cell"), str(path), str(jobs)]
    command += [] if Image.MAX_IMAGE_PIXELS is None else [str(Image.MAX_IMAGE_PIXELS)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    processes.append(process)
    _, said = process.communicate()
    if process.returncode != 0:
        return {"cell": cell.to_json(), "error": _reason(process.returncode, said)}
    path.unlink()
    result: dict[str, Any] = json.loads((folder / f"{cell.name}.result.json").read_text())
    return result


def _reason(code: int, said: str) -> str:
    """Say why a process ended without a result."""
    if code >= 0:
        return (said.strip().splitlines() or ["no message"])[-1]
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    short = ", which is how a system ends processes when memory is short; run fewer at a time"
    return f"its process was ended by {name}{short if name == 'SIGKILL' else ''}."
