"""The whole benchmark of one quantized model."""

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carsam.benchmark.contenders import RUNNERS, Contender, contenders
from carsam.benchmark.machine import machine
from carsam.benchmark.measure import OF_IMAGES, OF_VIDEOS, measure
from carsam.benchmark.result import to_json
from carsam.benchmark.tracking import FRAME
from carsam.engines.native_video_engine import WITH_MEMORY
from carsam.errors import UserError
from carsam.extras import require
from carsam.formats.checkpoint import read_checkpoint
from carsam.formats.inventory import bytes_on_disk
from carsam.progress import Progress
from carsam.system import python_command


def benchmark(
    run: Path,
    runners: Sequence[str],
    *,
    peers: Path,
    threads: int,
    rounds: int,
    sets: Sequence[str] = (),
    also: Sequence[Path] = (),
    fewer_memories: Sequence[int] = (),
    environment: Mapping[str, str],
    command: str,
    progress: Progress,
) -> dict[str, Any]:
    """Measure how fast engines and other runtimes load, encode, decode and track, and their memory.

    Args:
        run: the quantized model; float models and other runtimes get its geometry.
        runners: keys of `RUNNERS`; the first is what the others are compared with.
        peers: folder that keeps the other runtimes' models, which are built when they are missing.
        threads: of every process.
        rounds: timed calls of each contender.
        sets: instruction sets, each of which the native engine gets a row for.
        also: more quantized models of the same geometry, for the native engine.
        fewer_memories: numbers of frames that the native engine recalls, with a row for each.
        environment: of the processes.
        command: said in the result.

    Raises:
        UserError: a package is missing, a model does not load, or a process fails.
    """
    config = _config(run)
    for folder in also:
        if _config(folder) != config:
            raise UserError(f"{folder} has another geometry than {run}; measure it by itself.")
    follows = read_checkpoint(run).manifest["family"] in WITH_MEMORY
    if fewer_memories and not follows:
        raise UserError(f"{run} has no memory; leave --memory-frames away.")
    for name in runners:
        if RUNNERS[name].packages:
            require(RUNNERS[name].extra, *RUNNERS[name].packages)
    folder = peers / hashlib.sha256(json.dumps(config).encode()).hexdigest()[:16]
    formats = [RUNNERS[name].format for name in runners]
    _build(run, folder, [name for name in formats if name is not None], environment, progress)
    rows = contenders(run, runners, sets, also, folder, fewer_memories)
    before = machine()
    phases = OF_VIDEOS if follows else OF_IMAGES
    records = measure(rows, rounds, threads, environment, progress, phases)
    entries = to_json(records)
    versions: dict[str, str] = {}
    for entry, contender in zip(entries, rows, strict=True):
        versions |= entry.pop("versions")
        entry |= _size(contender)
    return {
        "model": run.absolute().name,
        "machine": before,
        "threads": threads,
        "rounds": rounds,
        "versions": versions,
        **({"frame": FRAME} if follows else {}),
        "command": command,
        "engines": entries,
    }


def _config(run: Path) -> dict[str, Any]:
    """Return the configuration that says how large everything is."""
    config = read_checkpoint(run).manifest["model_config"]
    return {key: value for key, value in config.items() if key != "transformers_version"}


def _build(
    run: Path,
    folder: Path,
    formats: Sequence[str],
    environment: Mapping[str, str],
    progress: Progress,
) -> None:
    """Build the models that are missing, in a process that takes its memory with it."""
    missing = [name for name in dict.fromkeys(formats) if not (folder / name).exists()]
    if not missing:
        return
    progress.info(f"Building {', '.join(missing)} in {folder} (once)")
    command = [*python_command("carsam.benchmark.peers.build"), str(run), str(folder), *missing]
    done = subprocess.run(
        command, env=dict(environment), capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise UserError(f"The models {', '.join(missing)} could not be built:\n{said}")


def _size(contender: Contender) -> dict[str, Any]:
    """Return megabytes on disk, and the recipe and bits of a quantized model."""
    folder = contender.folder
    if RUNNERS[contender.runner].format is None:
        recipe = read_checkpoint(folder).manifest["recipe"]
        named = {"recipe": recipe["name"], "bits": recipe["bits"]}
        return {**named, "disk_mb": round(bytes_on_disk(folder) / 1e6, 1)}
    # The decoder for many boxes is a copy of that for one.
    files = [path for path in folder.iterdir() if not path.name.startswith("decoder_64")]
    return {"disk_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1)}
