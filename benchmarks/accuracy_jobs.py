"""Jobs that quantize and evaluate, one process each, with all results in one json.

A script makes a dictionary of jobs and calls `main`. Each result is written when its job ends; a
script that is started again continues with the jobs that have no result yet. Every job is strict:
`assert_strict` runs before the evaluation."""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provenance import provenance

from carsam.formats.files import write_whole
from carsam.methods.recipe import Recipe
from carsam.threads import set_threads

STRICT_IMAGES = 2


@dataclass(frozen=True)
class Job:
    """One model to quantize and evaluate.

    Args:
        recipe: with its bits.
        seed: chooses calibration images and drives everything random.
        labels: what the json says of the job beside its result.
    """

    recipe: Recipe
    seed: int
    labels: dict[str, Any]


def main(jobs: dict[str, Job], result: Path, description: str) -> None:
    """Run the jobs without a result; with `--job NAME` only that one, and end the process."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="folder with annotations, images_train, images_dev")
    parser.add_argument("--model", default="sam-mini")
    parser.add_argument("--count", type=int, default=32, help="calibration images")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=result)
    parser.add_argument("--job", choices=jobs, help="run this one here and print its json")
    options = parser.parse_args()
    if options.job:
        print(json.dumps(_measure(jobs[options.job], options)))
        sys.exit()
    done = json.loads(options.out.read_text()) if options.out.exists() else {"jobs": {}}
    done |= {**provenance("torch", "transformers", "numpy"), "threads": options.threads}
    done |= {"model": options.model, "count": options.count}
    for name in jobs:
        if name in done["jobs"]:
            continue
        command = [sys.executable, sys.argv[0], str(options.data), "--job", name]
        command += ["--model", options.model, "--count", str(options.count)]
        command += ["--threads", str(options.threads)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        done["jobs"][name] = found
        write_whole(options.out, json.dumps(done, indent=1) + "\n", "Make room.")
        print(f"{name}: AP {100 * found['AP']:.1f}, {found['seconds']:.0f} s", flush=True)


def _measure(job: Job, options: argparse.Namespace) -> dict[str, Any]:

    from carsam.calibration.quantize import quantize
    from carsam.comparison.run import evaluated_names
    from carsam.engines.torch_engine import TorchEngine
    from carsam.evaluation.evaluate import evaluate
    from carsam.evaluation.strict import assert_strict
    from carsam.images.read import read_image

    set_threads(options.threads)
    coco = options.data / "annotations" / "val_dev.json"
    evaluated = options.data / "images_dev"
    names = evaluated_names(coco, evaluated)
    model = quantize(
        options.model,
        options.data / "images_train",
        job.recipe,
        coco=options.data / "annotations" / "calib.json",
        avoid=names,
        count=options.count,
        seed=job.seed,
    )
    assert_strict(model, [read_image(evaluated / name) for name in names[:STRICT_IMAGES]])
    engine = TorchEngine(model.family, model.module, model.mode)
    found = evaluate(engine, coco, evaluated).to_json()
    calibration = model.provenance["calibration"]
    return {
        **job.labels,
        "recipe": job.recipe.to_dict(),
        "seed": job.seed,
        "AP": found["coco"]["AP"],
        "mean_iou": found["mean_iou"],
        "seconds": calibration["seconds"],
        "peak_mb": calibration["peak_mb"],
    }
