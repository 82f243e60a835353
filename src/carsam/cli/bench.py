"""`carsam bench`: speed and memory of engines, beside other runtimes."""

import json as json_format
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from carsam.cli.options import Common
from carsam.errors import UserError
from carsam.formats.files import check_writable, write_whole
from carsam.threads import current_threads

OTHER_FILE = "Name another file, or make room."

Repeated = Annotated[list[Path] | None, Parameter(negative="")]


def bench(
    run: Path,
    /,
    *,
    engine: str = "native",
    against: str = "",
    json: Path | None = None,
    markdown: Path | None = None,
    repeats: int = 5,
    isa: str = "",
    memory_frames: str = "",
    also: Repeated = None,
    peers: Path | None = None,
    common: Common | None = None,
) -> None:
    """Measure how fast a quantized model loads, encodes and decodes, and its memory.

    A model with a memory also follows 1 and 4 objects, in place of decoding 64 boxes.
    Every contender has its own process; they take turns, round by round. Float models and other
    runtimes get random weights of the same geometry, which cost the same. `native` needs nothing,
    `simulated` and `float` the extra `quantize`, other runtimes the extra `bench`.

    Args:
        run: folder of the quantized model.
        engine: native, simulated, float, float-eager; separated by commas.
        against: onnxruntime, openvino (each with its int8 variants), or single ones such as
            openvino-bf16; separated by commas.
        json: where the result goes.
        markdown: where the table goes.
        repeats: rounds, each with one turn of every contender.
        isa: instruction sets for the native engine, separated by commas; the best unless given.
        memory_frames: numbers of frames that a tracked one recalls beside the prompted one,
            separated by commas: a row more of the native engine for each.
        also: another quantized model of the same geometry, for the native engine; repeat for more.
        peers: folder that keeps the other runtimes' models; carsam/peers in the user's cache
            unless given.
    """
    environment = dict(os.environ)  # before carsam's choices, which other runtimes do not need
    options = common or Common()
    options.prepare()
    from carsam.benchmark.contenders import runners_named
    from carsam.benchmark.result import markdown as table
    from carsam.benchmark.run import benchmark

    if repeats < 1:
        raise UserError(f"Found --repeats {repeats}; expected at least 1.")
    runners = runners_named(f"{engine},{against}")
    fewer = [name for name in memory_frames.split(",") if name]
    if not all(name.isdecimal() for name in fewer):
        raise UserError(f"Found --memory-frames {memory_frames}; expected numbers such as 3,1.")
    for output in (json, markdown):
        if output is not None:
            check_writable(output, OTHER_FILE)
    with options.progress() as progress:
        document = benchmark(
            run,
            runners,
            peers=peers or _default_folder(),
            threads=current_threads(),
            rounds=repeats,
            sets=[name for name in isa.split(",") if name],
            also=also or [],
            fewer_memories=[int(name) for name in fewer],
            environment=environment,
            command=_command(),
            progress=progress,
        )
    text = table(document)
    for path, content in ((json, json_format.dumps(document, indent=1) + "\n"), (markdown, text)):
        if path is not None:
            write_whole(path, content, OTHER_FILE)
    print(text, end="")


def _command() -> str:
    """Return the command of this process, with paths cut to their last part."""
    return shlex.join(["carsam", *(Path(argument).name for argument in sys.argv[1:])])


def _default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "carsam" / "peers"
