"""Processes that die at a chosen place, for tests of what a kill leaves."""

import os
import signal
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def start(place: dict, arguments: list) -> int:
    """Run `carsam` in a forked child that kills itself; return its process number.

    Args:
        place: `at`, a function as `module:path`, and the number of the `call` that kills, counted
            once the function `since` was called; with `after` it kills when it has returned; with
            `waiting` it makes that file and waits to be killed. `constants` sets some of the
            program's, by `module:name`.
        arguments: of the command line.
    """

    def run() -> None:
        _die_at(place)
        import_module("carsam.cli").main([str(argument) for argument in arguments])

    return _forked(run)


def run_until_killed(place: dict, arguments: list) -> None:
    """Run `carsam` until it has killed itself."""
    _assert_killed(start(place, arguments))


def in_a_killed_child(action: Callable[[Callable[[], None]], None]) -> None:
    """Call `action` in a forked child, with a function that kills it."""
    _assert_killed(_forked(lambda: action(_die)))


def _forked(action: Callable[[], None]) -> int:
    """Call `action` in a forked child, which does nothing after it; return its process number."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(1)
    return child


def _assert_killed(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(place: dict) -> None:
    """Replace the function at which this process is to die."""
    calls, began = [], []

    def begins(original, *given, **named):
        began.append(1)
        return original(*given, **named)

    def dies(original, *given, **named):
        if began or "since" not in place:
            calls.append(1)
        if len(calls) < place["call"]:
            return original(*given, **named)
        if place.get("waiting"):
            Path(place["waiting"]).touch()
            time.sleep(1000)
        if place.get("after"):
            original(*given, **named)
        return _die()

    for name, value in place.get("constants", {}).items():
        module, name = name.split(":")
        setattr(import_module(module), name, value)
    _replace(place["at"], dies)
    if "since" in place:
        _replace(place["since"], begins)


def _replace(at: str, replacement: Callable) -> None:
    module, path = at.split(":")
    holder = import_module(module)
    *holders, name = path.split(".")
    for part in holders:
        holder = getattr(holder, part)
    original = getattr(holder, name)
    setattr(holder, name, lambda *given, **named: replacement(original, *given, **named))
