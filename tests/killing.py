"""Processes that die at a chosen place, for tests of what a kill leaves."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

DIE = """
import json, os, signal, sys, time
from importlib import import_module
from pathlib import Path

place, arguments = json.loads(sys.argv[1]), sys.argv[2:]
for name, value in place.get("constants", {}).items():
    module, name = name.split(":")
    setattr(import_module(module), name, value)

def replace(at, replacement):
    module, path = at.split(":")
    holder = import_module(module)
    *holders, name = path.split(".")
    for part in holders:
        holder = getattr(holder, part)
    original = getattr(holder, name)
    setattr(holder, name, lambda *given, **named: replacement(original, *given, **named))

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
    os.kill(os.getpid(), signal.SIGKILL)

replace(place["at"], dies)
if "since" in place:
    replace(place["since"], begins)
from carsam.cli import main
sys.exit(main(arguments))
"""


def start(place: dict, arguments: list) -> subprocess.Popen:
    """Start `carsam` in a process of its own that kills itself.

    Args:
        place: `at`, a function as `module:path`, and the number of the `call` that kills, counted
            once the function `since` was called; with `after` it kills when it has returned; with
            `waiting` it makes that file and waits to be killed. `constants` sets some of the
            program's, by `module:name`.
        arguments: of the command line.
    """
    import json

    command = [sys.executable, "-c", DIE, json.dumps(place), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_until_killed(place: dict, arguments: list) -> None:
    """Run `carsam` until it has killed itself."""
    process = start(place, arguments)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, errors


def in_a_killed_child(action: Callable[[Callable[[], None]], None]) -> None:
    """Call `action` in a forked child, with a function that kills it."""
    child = os.fork()
    if child == 0:
        try:
            action(lambda: os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
