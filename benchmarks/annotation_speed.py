"""How many images `carsam annotate` masks a minute, with one worker of one thread and with two.

    python benchmarks/annotation_speed.py [--model sam-mini-w4a4] [--images 48] [--rounds 3]

Procedural scenes of 640 x 640 pixels with their boxes are annotated anew in every round, with one
worker and with two in turn. The json has for each the seconds from the call to the last file, with
the start of the workers and without (from each worker's first finished image on), and the processor
seconds of all workers; medians over the rounds.

The numbers go to benchmarks/results/annotation_speed.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from provenance import provenance

from carsam.annotation.annotate import annotate
from carsam.images.scenes import write_scenes
from carsam.progress import Silent

RESULT = Path(__file__).parent / "results" / "annotation_speed.json"
SIZE = 640
SHARD = 2
WORKERS = (1, 2)


class Times(Silent):
    """Keeps when each image was finished."""

    def __init__(self) -> None:
        self.finished: list[float] = []

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.finished += [time.perf_counter()] * steps


def run(model: str, scenes: Path, jobs: int) -> dict[str, float]:
    """Annotate all scenes once; return seconds, and how many images and masks there were."""
    times, before, started = Times(), os.times(), time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        summary = annotate(
            model,
            str(scenes / "instances.json"),
            out,
            images=str(scenes / "images"),
            shard_size=SHARD,
            jobs=jobs,
            progress=times,
        )
    after, seconds = os.times(), time.perf_counter() - started
    processor = after.children_user + after.children_system
    processor -= before.children_user + before.children_system
    steady = (summary.images - jobs) / (times.finished[-1] - times.finished[jobs - 1])
    return {
        "images": summary.images,
        "masks": summary.masks,
        "seconds": seconds,
        "images_per_minute": 60 * summary.images / seconds,
        "images_per_minute_once_started": 60 * steady,
        "processor_seconds_per_image": processor / summary.images,
    }


def main() -> None:
    """Measure, print and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="sam-mini-w4a4")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rounds: dict[int, list[dict[str, float]]] = {jobs: [] for jobs in WORKERS}
    with tempfile.TemporaryDirectory() as folder:
        scenes = write_scenes(folder, arguments.images, seed=1, size=SIZE).parent
        for _ in range(arguments.rounds):
            for jobs in WORKERS:
                rounds[jobs].append(run(arguments.model, scenes, jobs))
                print(jobs, rounds[jobs][-1], flush=True)
    medians = {
        jobs: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        for jobs, runs in rounds.items()
    }
    one, two = (medians[jobs]["images_per_minute_once_started"] for jobs in WORKERS)
    document: dict[str, Any] = {
        **provenance("carsam", "numpy"),
        "model": arguments.model,
        "pixels": SIZE,
        "rounds": arguments.rounds,
        "workers": {str(jobs): medians[jobs] for jobs in WORKERS},
        "scaling": two / one,
    }
    print(f"two workers do {two / one:.2f} times what one does")
    RESULT.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
