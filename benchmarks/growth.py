"""How the native engine's cost grows: with threads, with the side of the input, with boxes.

    python benchmarks/growth.py [--model sam-vit-base] [--rounds 5]

A model with random weights and the grids of `carsam-plus`, w4a4. Every side has a model of its own
size, the boxes are decoded at the model's own. All of it takes turns, round by round, in one
process.
The numbers go to benchmarks/results/growth.json.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from provenance import provenance
from random_runs import random_run

from carsam.benchmark import inputs
from carsam.engines.native_engine import NativeEngine
from carsam.runtime import kernels

RESULT = Path(__file__).parent / "results" / "growth.json"
SIDES = 512, 768, 1024, 1280, 1536
OWN_SIDE = 1024
BOXES = 1, 4, 16, 64, 256
THREADS = 1, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="sam-vit-base")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    engines = {
        side: NativeEngine(random_run(options.model, "w4a4", "carsam-plus", side).to_checkpoint())
        for side in SIDES
    }
    seconds: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for repeat in range(options.rounds + 1):
        for threads in THREADS:
            kernels.set_threads(threads)
            for what, count, work in calls(engines):
                started = time.perf_counter()
                work()
                if repeat:  # the first round warms up
                    seconds[what, count, threads].append(time.perf_counter() - started)
    result = {
        **provenance("carsam", "numpy"),
        "model": options.model,
        "instruction_set": kernels.instruction_set(),
        "rounds": options.rounds,
        "rows": [row(*key, values) for key, values in seconds.items()],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    for each in result["rows"]:
        print(json.dumps(each))


def calls(
    engines: dict[int, NativeEngine],
) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Yield what is varied, its number, and the work."""
    for side, engine in engines.items():
        pixels = inputs.pixels(side)
        yield "side", side, lambda engine=engine, pixels=pixels: engine.encode(pixels)
    engine = engines[OWN_SIDE]
    embedding = engine.encode(inputs.pixels(OWN_SIDE))
    for count in BOXES:
        prompts = inputs.boxes(count, OWN_SIDE)
        yield "boxes", count, lambda prompts=prompts: engine.decode(embedding, prompts, False)


def row(what: str, count: int, threads: int, values: list[float]) -> dict[str, object]:
    """Return the numbers of one case."""
    return {
        what: count,
        "threads": threads,
        "seconds": round(statistics.median(values), 5),
        "least": round(min(values), 5),
        "most": round(max(values), 5),
    }


if __name__ == "__main__":
    main()
