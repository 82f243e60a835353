"""Where output goes: consoles of any encoding, pipes that close early, no console at all."""

import os
import shutil
import sys
from pathlib import Path

from rich.console import Console


class Terminal(Console):
    """A console of rich that leaves a closed pipe to `carsam.cli.main`."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def prepare_streams() -> None:
    """Let output contain any character: what the console does not have is written as an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed, or a program without a console
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Send to nowhere what is still to be written to a pipe that nobody reads."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def expanded(argument: str) -> str:
    """Return an argument with the home folder in place of `~`, also in `--option=~/folder`."""
    option, equals, value = argument.partition("=")
    if equals and option.startswith("--"):
        return f"{option}={_home(value)}"
    return _home(argument)


def program() -> str:
    """Return how to call carsam: by name where it is on the path, else as this process was."""
    if shutil.which("carsam"):
        return "carsam"
    if Path(sys.argv[0]).stem != "carsam":
        return f"{sys.executable} -m carsam"
    try:
        return os.path.relpath(sys.argv[0])
    except ValueError:  # on another drive of Windows
        return sys.argv[0]


def _home(text: str) -> str:
    return os.path.expanduser(text) if text.startswith("~") else text
