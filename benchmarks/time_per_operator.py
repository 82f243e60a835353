"""Where the native engine's time goes: processor seconds of every operator, on one thread.

    python benchmarks/time_per_operator.py RUN [--repeats 3] [--json FILE]

Encodes one image of noise, then decodes 1 and 64 random boxes; with a model that has a memory it
also follows an object to a frame that recalls all it can. Processor time, not wall time, and the
smallest of some repeats, which other work on the machine disturbs least.
"""

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # read when numpy is imported

import numpy as np
from provenance import provenance

from carsam.benchmark.tracking import session
from carsam.engines.native_video_engine import NativeVideoEngine, native_engine
from carsam.formats.checkpoint import read_checkpoint
from carsam.images.prompts import Prompts
from carsam.runtime import kernels

OPERATORS = (
    "linear",
    "linear_norm_on_grids",
    "float_product",
    "attention",
    "layer_norm",
    "norm_on_grids",
    "activate",
    "quantize",
    "rotate",
    "depthwise",
    "upscaled_masks",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a quantized model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    arguments = parser.parse_args()
    engine = native_engine(read_checkpoint(arguments.run), threads=1)
    random = np.random.default_rng(0)
    side = engine.framing.side
    pixels = random.normal(size=(3, side, side)).astype(np.float32)
    embedding = engine.encode(pixels)
    corners = np.sort(random.uniform(0, side, (64, 2, 2)), axis=1).reshape(64, 4)
    boxes = corners.astype(np.float32)

    def decode(count: int) -> Callable[[], object]:
        return lambda: engine.decode(embedding, Prompts(boxes=boxes[:count]), False)

    print(f"instruction set {kernels.instruction_set()}, processor milliseconds")
    work = {
        "encode": lambda: engine.encode(pixels),
        "decode 1 box": decode(1),
        "decode 64 boxes": decode(64),
    }
    if isinstance(engine, NativeVideoEngine):
        frames = session(engine, objects=1, memory_frames=None)
        next(frames)  # its prompt and its memories are made before
        work["follow 1 object to a frame"] = lambda: next(frames)
    milliseconds = {
        name: report(name, [measure(call) for _ in range(arguments.repeats)])
        for name, call in work.items()
    }
    if arguments.json:
        result = {
            **provenance("carsam", "numpy"),
            "run": Path(arguments.run).name,
            "instruction_set": kernels.instruction_set(),
            "processor_milliseconds": milliseconds,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(work: Callable[[], object]) -> dict[str, tuple[int, float]]:
    """Calls and seconds by operator; `total` is the whole of `work`."""
    spent: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    originals = {name: getattr(kernels, name) for name in OPERATORS if hasattr(kernels, name)}

    def timed(name: str, operator: Callable) -> Callable:
        def call(*arguments, **named):
            started = time.process_time()
            result = operator(*arguments, **named)
            key = f"{name} {describe(arguments, named)}"
            calls, seconds = spent[key]
            spent[key] = (calls + 1, seconds + time.process_time() - started)
            return result

        return call

    for name, operator in originals.items():
        setattr(kernels, name, timed(name, operator))
    try:
        started = time.process_time()
        work()
        spent["total"] = (1, time.process_time() - started)
    finally:
        for name, operator in originals.items():
            setattr(kernels, name, operator)
    return spent


def describe(arguments: tuple, named: dict) -> str:
    """Shapes and options of a call."""
    words = []
    for argument in (*arguments, *named.values()):
        if isinstance(argument, str):
            words.append(argument)
        elif hasattr(argument, "query_rows"):
            groups, queries = argument.query_rows.shape
            words.append(f"{groups} x ({queries} queries, {argument.key_rows.shape[1]} keys)")
        elif hasattr(argument, "packed"):
            words.append(f"-> {argument.rows}")
        elif getattr(argument, "shape", ()) and len(argument.shape) > 1:
            words.append("x".join(map(str, argument.shape)))
    return " ".join(words)


def report(name: str, runs: list[dict[str, tuple[int, float]]]) -> dict[str, float]:
    """Print the least of the runs' times, the longest first; return them in milliseconds."""
    least = {key: min(run[key][1] for run in runs) for key in runs[0]}
    total = least.pop("total")
    least["outside the operators"] = total - sum(least.values())
    print(f"\n{name}: {1000 * total:.1f}")
    ordered = sorted(least.items(), key=lambda item: -item[1])
    for key, seconds in ordered:
        calls = runs[0].get(key, (1, 0))[0]
        print(f"{1000 * seconds:10.2f} {100 * seconds / total:5.1f} %  {calls:4d}  {key}")
    return {key: round(1000 * seconds, 2) for key, seconds in (("total", total), *ordered)}


if __name__ == "__main__":
    main()
