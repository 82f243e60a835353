"""Measure contenders in turn: load, encode, decode and track separately, round by round."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from carsam.benchmark.contenders import RUNNERS, Contender
from carsam.benchmark.inputs import BATCHES
from carsam.benchmark.process import Process
from carsam.progress import Progress

IDLE_MEGABYTES = 3000
"""A process that keeps more than this between its turns is ended, and started and warmed up again
for the next: not all contenders fit into memory at once."""

LOAD_ROUNDS = 2
"""Rounds of loading at most: some runtimes compile for long."""

PAUSE_SECONDS = 0.1
"""Between two turns, for the threads of the last one to fall asleep."""


@dataclass(frozen=True)
class Phase:
    """One thing to measure.

    Args:
        name: key of the seconds in the result.
        task: what the worker is asked for.
        warm_up: calls before the timed ones of each turn, for caches that others used meanwhile.
        timed: calls of each turn.
    """

    name: str
    task: Mapping[str, Any]
    warm_up: int
    timed: int


ENCODE = Phase("encode", {"do": "encode"}, 0, 1)
DECODE_ONE = Phase("decode", {"do": "decode", "boxes": BATCHES[0]}, 1, 5)
DECODE_MANY = Phase("decode_64", {"do": "decode", "boxes": BATCHES[1]}, 0, 1)
TRACK_ONE = Phase("track", {"do": "track", "objects": 1}, 0, 1)
TRACK_FOUR = Phase("track_4", {"do": "track", "objects": 4}, 0, 1)

OF_IMAGES = (ENCODE, DECODE_ONE, DECODE_MANY)
OF_VIDEOS = (ENCODE, DECODE_ONE, TRACK_ONE, TRACK_FOUR)
"""Of models with a memory; only some contenders track."""


@dataclass
class Record:
    """What was measured of one contender.

    Args:
        seconds: of every timed call, by phase; `load` and `first_encode` among them.
        peak_mb: the most memory of its processes by the end of each phase.
        description: versions, instruction set, precision, as the worker says them.
    """

    contender: Contender
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    peak_mb: dict[str, float] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)


def measure(
    contenders: Sequence[Contender],
    rounds: int,
    threads: int,
    environment: Mapping[str, str],
    progress: Progress,
    phases: Sequence[Phase] = OF_IMAGES,
) -> list[Record]:
    """Return what was measured of each contender.

    Every round gives each contender one turn, in alternating direction, so that drifts of the
    machine meet all alike; all other processes sleep meanwhile.

    Raises:
        UserError: a contender's process failed.
    """
    players = [_Player(contender, threads, environment) for contender in contenders]
    try:
        _take_turns(players, "load", min(rounds, LOAD_ROUNDS), _Player.load, progress)
        for phase in phases:
            turn = partial(_Player.measure, phase=phase)
            able = [player for player in players if player.can(phase)]
            _take_turns(able, phase.name, rounds, turn, progress)
    finally:
        for player in players:
            player.end()
    return [player.record for player in players]


def _take_turns(
    players: Sequence["_Player"],
    name: str,
    rounds: int,
    turn: Callable[["_Player"], None],
    progress: Progress,
) -> None:
    progress.start(f"Measuring {name}", rounds * len(players))
    for number in range(rounds):
        for player in players if number % 2 == 0 else reversed(players):
            time.sleep(PAUSE_SECONDS)
            turn(player)
            progress.advance(note=player.record.contender.name)
    progress.finish()


class _Player:
    """A contender, its process while it has one, and its record."""

    def __init__(self, contender: Contender, threads: int, environment: Mapping[str, str]) -> None:
        self.record = Record(contender)
        self._threads, self._environment = threads, environment
        self._process: Process | None = None
        self._warm: set[str] = set()
        self._shapes: list[list[int]] = []

    def can(self, phase: Phase) -> bool:
        """Whether the contender does what a phase measures."""
        return (
            phase.task["do"] != "track" or RUNNERS[self.record.contender.runner].track is not None
        )

    def load(self) -> None:
        """Load the model in a new process."""
        self.end()
        self._process = Process(self.record.contender, self._threads, self._environment)
        reply = self._process.ask({"do": "load"})
        self.record.seconds["load"] += reply.pop("seconds")
        self._note_peak("load", reply.pop("peak_mb"))
        del reply["resident_mb"]
        self.record.description = reply

    def measure(self, phase: Phase) -> None:
        """Do the timed calls of a phase, warmed up."""
        if self._process is None:
            self.load()
        if phase.name not in self._warm:
            first = self._ask(phase, 1)["seconds"]
            self._warm.add(phase.name)
            self.record.seconds[f"first_{phase.name}"] += first
        if phase.warm_up:
            self._ask(phase, phase.warm_up)
        reply = self._ask(phase, phase.timed)
        self.record.seconds[phase.name] += reply["seconds"]
        if reply["resident_mb"] > IDLE_MEGABYTES:
            self.end()

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.end()
        self._process = None
        self._warm.clear()

    def _ask(self, phase: Phase, times: int) -> dict[str, Any]:
        assert self._process is not None
        more: dict[str, Any] = {}
        if phase.task["do"] == "decode":
            more["shapes"] = self._shapes
        elif phase.task["do"] == "track":
            more["memory_frames"] = self.record.contender.memory_frames
        reply = self._process.ask({**phase.task, **more, "times": times})
        self._shapes = reply.get("shapes", self._shapes)
        self._note_peak(phase.name, reply["peak_mb"])
        return reply

    def _note_peak(self, phase: str, megabytes: float) -> None:
        self.record.peak_mb[phase] = max(self.record.peak_mb.get(phase, 0.0), megabytes)
