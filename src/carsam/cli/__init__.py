"""The command line. Commands are plain functions; `main` turns what they raise into exit codes."""

import errno
import signal
import sys
import threading
from collections.abc import Sequence

from cyclopts import App, CycloptsError, MissingArgumentError

from carsam.cli import (
    annotate,
    bench,
    compare,
    demo,
    doctor,
    embed,
    evaluate,
    export,
    info,
    masks,
    predict,
    quantize,
    quickstart,
    recipes,
    report,
    serve,
    track,
)
from carsam.cli.terminal import Terminal, drop_output, expanded, prepare_streams
from carsam.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: work unwinds as after Ctrl-C, so that nothing half-written stays."""


app = App(
    name="carsam",
    help="Quantize Segment Anything models to 4 bits and run them on ordinary CPUs.",
    help_format="markdown",  # puts lines of docstrings together again
    suppress_keyboard_interrupt=False,
    exit_on_error=False,
    print_error=False,
    result_action="return_value",
    console=Terminal(),
)
app.command(quickstart.quickstart, sort_key=0)
app.command(quantize.quantize, sort_key=1)
app.command(evaluate.evaluate, sort_key=2)
app.command(predict.predict, sort_key=3)
app.command(masks.masks, sort_key=4)
app.command(track.track, sort_key=5)
app.command(annotate.annotate, sort_key=6)
app.command(serve.serve, sort_key=7)
app.command(demo.demo, sort_key=8)
app.command(embed.embed, sort_key=9)
app.command(info.info, sort_key=10)
app.command(compare.compare, sort_key=11)
app.command(doctor.doctor, sort_key=12)
app.command(report.report, sort_key=13)
app.command(recipes.recipes, sort_key=14)
app.command(bench.bench, sort_key=15)
app.command(export.export, sort_key=16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    It is 0, 2 for a user's error, 130 after Ctrl-C, or 143 after SIGTERM.

    Args:
        arguments: what follows `carsam`; those of the process unless given.
    """
    prepare_streams()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        app([expanded(each) for each in (sys.argv[1:] if arguments is None else arguments)])
        sys.stdout.flush()
    except MissingArgumentError as error:
        command = " ".join(["carsam", *(error.command_chain or ())])
        name = error.argument.name if error.argument else "an option"
        return _fail(f"Found no value for {name}; see `{command} --help`.", USER_ERROR)
    except (UserError, CycloptsError) as error:
        return _fail(str(error), USER_ERROR)
    except Terminated:
        return _fail("Terminated; nothing half-written is left behind.", TERMINATED)
    except KeyboardInterrupt:
        return _fail("Interrupted; nothing half-written is left behind.", INTERRUPTED)
    except BrokenPipeError:  # `carsam info RUN | head` has seen enough
        drop_output()
    except UnicodeEncodeError as error:
        return _fail(
            f"{error.object!a} cannot be written in this system's encoding, {error.encoding}. "
            "Set PYTHONUTF8=1 in the environment and run again.",
            USER_ERROR,
        )
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        if error.errno == errno.ENOSPC:
            return _fail(f"The disk is full{where}. Free some space and run again.", USER_ERROR)
        if not where:  # no file's fault
            raise
        return _fail(f"A file cannot be read or written: {error.strerror}{where}.", USER_ERROR)
    return 0


def _terminate(*_: object) -> None:
    raise Terminated


def _fail(message: str, code: int) -> int:
    try:
        print(f"carsam: {message}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    except OSError:  # nobody listens any more
        drop_output()
    return code
