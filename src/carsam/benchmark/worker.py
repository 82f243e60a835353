"""The process of one contender: does one task after another, as the parent asks through a pipe.

Its arguments are the runner, the folder and the threads. Tasks come as JSON lines on standard
input, replies go as JSON lines to standard output.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from carsam.benchmark import inputs
from carsam.benchmark.contenders import RUNNERS
from carsam.benchmark.tracking import Tracker
from carsam.engines.base import Embedding, Engine
from carsam.system import peak_memory, resident_memory

MEGABYTE = 1e6


class Worker:
    """Loads one model and times it."""

    def __init__(self, runner: str, folder: Path, threads: int) -> None:
        self._runner, self._folder, self._threads = RUNNERS[runner], folder, threads
        self._engine: Engine
        self._trackers: dict[tuple[int, int | None], Tracker] = {}
        self._embedding: Embedding = ()

    def do(self, task: dict[str, Any]) -> dict[str, Any]:
        """Do a task, as often as its `times` says; return seconds and memory."""
        tasks: dict[str, Callable[..., dict[str, Any]]]
        tasks = {
            "load": self._load,
            "encode": self._encode,
            "decode": self._decode,
            "track": self._track,
        }
        reply = tasks[task.pop("do")](**task)
        resident = resident_memory() / MEGABYTE
        return {**reply, "peak_mb": peak_memory() / MEGABYTE, "resident_mb": resident}

    def _load(self) -> dict[str, Any]:
        def work() -> None:
            self._engine = self._runner.open(self._folder, self._threads)

        return {"seconds": _timed(work, 1), **self._description()}

    def _encode(self, times: int) -> dict[str, Any]:
        pixels = inputs.pixels(self._engine.framing.side)

        def work() -> None:
            self._embedding = self._engine.encode(pixels)

        seconds = _timed(work, times)
        return {"seconds": seconds, "shapes": [part.shape for part in self._embedding]}

    def _decode(self, times: int, boxes: int, shapes: list[list[int]]) -> dict[str, Any]:
        # What this process has encoded lies in memory as its decoder expects it.
        embedding = self._embedding or inputs.embedding(shapes)
        prompts = inputs.boxes(boxes, self._engine.framing.side)
        return {"seconds": _timed(lambda: self._engine.decode(embedding, prompts, False), times)}

    def _track(self, times: int, objects: int, memory_frames: int | None) -> dict[str, Any]:
        asked = objects, memory_frames
        if asked not in self._trackers:
            assert self._runner.track is not None
            self._trackers = {asked: self._runner.track(self._engine, *asked)}
        return {"seconds": _timed(lambda: next(self._trackers[asked]), times)}

    def _description(self) -> dict[str, Any]:
        """Return what the engine says of itself, and the versions of what it imported."""
        packages = ("numpy", *self._runner.packages)
        described: dict[str, Any] = {
            "threads": self._engine.threads,  # type: ignore[attr-defined]
            "versions": {name: version(name) for name in packages if name in sys.modules},
        }
        if self._runner.format is None and "carsam.runtime.kernels" in sys.modules:
            described["instruction_set"] = sys.modules["carsam.runtime.kernels"].instruction_set()
        if hasattr(self._engine, "precision"):
            described["precision"] = self._engine.precision
        return described


def _timed(work: Callable[[], Any], times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between the replies
    runner, folder, threads = sys.argv[1:]
    worker = Worker(runner, Path(folder), int(threads))
    for line in sys.stdin:
        print(json.dumps(worker.do(json.loads(line))), file=replies, flush=True)
