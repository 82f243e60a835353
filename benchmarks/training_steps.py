"""Processor time of one training step of sam-mini, of this checkout beside another one.

    python benchmarks/training_steps.py --against OTHER --threads 1

Every checkout takes one random image with 16 random boxes through the float model up to a unit, and
gives the unit the grids of `carsam`; or it gives all units from the neck on those of `carsam-plus`.
Then the checkouts take turns, several times: a short training here, one there. A time per step is
the difference of a longer and a shorter training, so what a training does once is not in it. The
median of the rounds, and of their ratios, goes to benchmarks/results/training_steps.json. OTHER is
measured by its own copy of this file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "training_steps.json"
NAME = Path(__file__).name
BOXES, STEPS = 16, 4
POLISH = "polish"
UNITS = {
    "windowed encoder block": "vision_encoder.layers.2.attn",
    "global encoder block": "vision_encoder.layers.3.attn",
    "joint cross-attention, block 0": "mask_decoder.transformer.layers.0.cross_attn",
    "joint cross-attention, block 1": "mask_decoder.transformer.layers.1.cross_attn",
    "final attention": "mask_decoder.transformer.final_attn",
}


def work(threads: int) -> None:
    """Measure whenever the other side of the pipes says so."""
    import torch

    from carsam.calibration.course import Course, plan_course
    from carsam.calibration.observe import run_observed
    from carsam.families import load_model
    from carsam.families.base import split_after_encoder
    from carsam.methods.base import Unit
    from carsam.methods.registry import make_recipe
    from carsam.methods.steps.training.mask_loss import run_stages
    from carsam.methods.steps.training.reconstruct import Reconstruct
    from carsam.methods.steps.training.teacher import Teacher
    from carsam.progress import Silent
    from carsam.simulation.model import prepare
    from carsam.threads import set_threads

    set_threads(threads)
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    class Mute(Silent):
        def warn(self, message: str) -> None: ...

    def course_of(name: str) -> tuple[Course, Any]:
        family, model = load_model("sam-mini")
        recipe = make_recipe(name, "w4a4")
        kept = tuple(step for step in recipe.steps if step.name != "compensate")
        course = plan_course(family, prepare(family, model), replace(recipe, steps=kept))
        generator = torch.Generator().manual_seed(0)
        side = model.config.vision_config.image_size
        corners = 0.5 * side * torch.rand(1, BOXES, 2, generator=generator)
        sizes = 20 + 0.4 * side * torch.rand(1, BOXES, 2, generator=generator)
        pixels = torch.randn(1, 3, side, side, generator=generator)
        return course, family.start(pixels, torch.cat([corners, corners + sizes], 2))

    def measure(step: Any, train: Callable[[Any], Any]) -> None:
        """Answer every line with the seconds of one step; an empty one ends it."""
        for line in sys.stdin:
            if not line.strip():
                return
            seconds = []
            for steps in (1, 1 + STEPS):
                began = time.process_time()
                train(step.shortened(steps))
                seconds.append(time.process_time() - began)
            print((seconds[1] - seconds[0]) / STEPS, file=pipe, flush=True)

    def reconstruct() -> None:
        course, state = course_of("carsam")
        wanted = list(UNITS.values())
        for plan in course.plans:
            if not wanted or not plan.name.startswith(wanted[0]):
                state = plan.run(course.model, state)
                continue
            wanted.pop(0)
            unit = unit_of(course, plan, state)
            for step in course.steps:
                if isinstance(step, Reconstruct):
                    measure(step, lambda step, unit=unit: step.run_(unit))
                else:
                    step.run_(unit)
            state = unit.targets[0]

    def unit_of(course: Course, plan: Any, state: Any) -> Unit:
        reads = course.reads_histogram
        targets, found = run_observed(course.model, plan, [state], reads, Silent())
        return Unit(course.model, plan, [state], [state], targets, found, progress=Mute())

    def polish() -> None:
        course, start = course_of("carsam-plus")
        encoder, _ = split_after_encoder(course.stages)
        embedding = run_stages(course.model, encoder, start)
        teacher, state = Teacher(course.model, course.stages, [embedding]), start
        for plan in course.plans:
            unit = unit_of(course, plan, state)
            if not plan.name.startswith("vision_encoder.layers"):
                for step in course.steps:
                    step.run_(unit)
            state = unit.targets[0]
        whole = replace(course.whole(course.model, [start], teacher), progress=Mute())
        ((_, step),) = course.closing
        measure(step, lambda step: step.run_(whole))

    with torch.no_grad():
        reconstruct()
        polish()


class Checkout:
    """A process that quantizes with the code of one checkout."""

    def __init__(self, root: Path, threads: int) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, str(root / "benchmarks" / NAME), "--work", "--threads", str(threads)],
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def seconds(self) -> float:
        """Return what it measures next."""
        self.say("measure")
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())

    def wait(self) -> None:
        """Wait for its end."""
        self._process.wait()


def compare(checkouts: list[Checkout], count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the milliseconds of a step of everything that is measured, and the ratio."""
    for name in (*UNITS, POLISH):
        rounds = [[1e3 * checkout.seconds() for checkout in checkouts] for _ in range(count)]
        for checkout in checkouts:
            checkout.say("")
        here, *others = (statistics.median(times) for times in zip(*rounds, strict=True))
        entry: dict[str, Any] = {"ms": round(here, 1)}
        if others:
            ratio = statistics.median(other / own for own, other in rounds)
            entry |= {"against_ms": round(others[0], 1), "ratio": round(ratio, 2)}
        print(name, entry, flush=True)
        yield name, entry


def main() -> None:
    """Measure, or work for the process that does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.threads)
    from provenance import provenance

    roots = [Path(__file__).resolve().parents[1]]
    if options.against is not None:
        roots.append(options.against.resolve())
    checkouts = [Checkout(root, options.threads) for root in roots]
    document = {
        **provenance("torch", "numpy"),
        "threads": options.threads,
        "rounds": options.rounds,
        "steps": dict(compare(checkouts, options.rounds)),
    }
    for checkout in checkouts:
        checkout.wait()
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
