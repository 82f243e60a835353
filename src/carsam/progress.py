"""One reporter for long work: a bar on a terminal, plain lines elsewhere, JSON lines on request.

Everything goes to the stream given, standard error by default; results own standard output.
"""

import json
import sys
import time
import warnings
from contextlib import suppress
from typing import Any, Literal, Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from carsam.system import peak_memory

Mode = Literal["auto", "plain", "json", "quiet"]
SECONDS_BETWEEN_LINES = 5.0


class Progress(Protocol):
    """Hears how far the work is. A stage runs from `start` to `finish`; stages do not nest."""

    def start(self, description: str, total: int) -> None:
        """Begin a stage of `total` steps; a stage still running is finished first."""
        ...

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` of the running stage as done; `note` says what they were."""
        ...

    def finish(self) -> None:
        """End the running stage, if there is one."""
        ...

    def warn(self, message: str) -> None:
        """Tell of something wrong that does not stop the work."""
        ...

    def info(self, message: str) -> None:
        """Tell of something worth knowing."""
        ...


def make_progress(mode: Mode = "auto", stream: TextIO | None = None) -> Progress:
    """Return the reporter for `mode`; `auto` is a bar on a terminal and plain lines elsewhere."""
    stream = sys.stderr if stream is None else stream
    if mode == "auto":
        return Bar(stream) if stream.isatty() else Plain(stream)
    return {"plain": Plain, "json": JsonLines, "quiet": WarningsOnly}[mode](stream)


class Task:
    """How far one stage is, and how long the rest may take."""

    def __init__(self, description: str, total: int) -> None:
        self.description = description
        self.total = total
        self.done = 0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def seconds_left(self) -> float | None:
        """The time the remaining steps take at the pace so far; None before the first step."""
        return self.seconds / self.done * (self.total - self.done) if self.done else None

    def status(self, note: str = "") -> str:
        """Return time left, peak memory and note as one line."""
        left = self.seconds_left
        parts = [f"{_clock(left)} left"] if left is not None and self.done < self.total else []
        return ", ".join([*parts, f"peak {peak_memory() / 1e9:.1f} GB", *([note] if note else [])])


class Silent:
    """Shows no progress; warnings become Python warnings. The default of library calls."""

    def start(self, description: str, total: int) -> None: ...

    def advance(self, steps: int = 1, note: str = "") -> None: ...

    def finish(self) -> None: ...

    def warn(self, message: str) -> None:
        warnings.warn(message, stacklevel=2)

    def info(self, message: str) -> None: ...


class WarningsOnly(Silent):
    """Writes warnings and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def warn(self, message: str) -> None:
        self._line(f"Warning: {message}")

    def _line(self, text: str) -> None:
        with suppress(BrokenPipeError):  # who has stopped listening does not stop the work
            print(text, file=self._stream, flush=True)


class Plain(WarningsOnly):
    """Writes one line every few seconds, and one at the end of each stage."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._stage: Task | None = None
        self._last_line = 0.0

    def start(self, description: str, total: int) -> None:
        self.finish()
        self._stage = Task(description, total)
        self._last_line = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        if self._stage is None:
            return
        self._stage.done += steps
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._line(f"{_count(self._stage)}, {self._stage.status(note)}")

    def finish(self) -> None:
        if self._stage is not None:
            stage, self._stage = self._stage, None
            self._line(f"{_count(stage)} in {_clock(stage.seconds)}, {stage.status()}")

    def info(self, message: str) -> None:
        self._line(message)


class JsonLines(WarningsOnly):
    """Writes one JSON object per line for every event, for programs that watch the work."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._stage: Task | None = None

    def start(self, description: str, total: int) -> None:
        self.finish()
        self._stage = Task(description, total)
        self._event("start", note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        if self._stage is not None:
            self._stage.done += steps
            self._event("advance", note)

    def finish(self) -> None:
        if self._stage is not None:
            self._event("finish", note="")
            self._stage = None

    def warn(self, message: str) -> None:
        self._write({"event": "warning", "message": message})

    def info(self, message: str) -> None:
        self._write({"event": "info", "message": message})

    def _event(self, event: str, note: str) -> None:
        assert self._stage is not None
        left = self._stage.seconds_left
        self._write(
            {
                "event": event,
                "description": self._stage.description,
                "done": self._stage.done,
                "total": self._stage.total,
                "seconds": round(self._stage.seconds, 3),
                "seconds_left": None if left is None else round(left, 3),
                "peak_memory_bytes": peak_memory(),
                "note": note,
            }
        )

    def _write(self, event: dict[str, Any]) -> None:
        self._line(json.dumps(event))


class Bar(Silent):
    """Draws a bar with time passed, time left and peak memory."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._bar: RichProgress | None = None
        self._stage = Task("", 0)

    def start(self, description: str, total: int) -> None:
        self.finish()
        self._stage = Task(description, total)
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn(
                "{task.fields[status]}",
                markup=False,
                style="dim",
                table_column=Column(ratio=1, no_wrap=True),
            ),
            console=self._console,
            expand=True,
        )
        self._bar.add_task(description, total=total, status="")
        self._bar.start()

    def advance(self, steps: int = 1, note: str = "") -> None:
        if self._bar is not None:
            self._stage.done += steps
            (task,) = self._bar.task_ids
            self._bar.update(task, advance=steps, status=self._stage.status(note))

    def finish(self) -> None:
        if self._bar is not None:
            (task,) = self._bar.task_ids
            self._bar.update(task, status=self._stage.status())
            self._bar.stop()
            self._bar = None

    def warn(self, message: str) -> None:
        self._console.print(f"[yellow]Warning:[/] {escape(message)}", highlight=False)

    def info(self, message: str) -> None:
        self._console.print(escape(message), highlight=False)


def _count(stage: Task) -> str:
    return f"{stage.description}: {stage.done}/{stage.total}"


def _clock(seconds: float) -> str:
    """Return 3.2 s, 1:05 or 2:03:04."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"
