"""Everything mode on SAM-B with random weights: 4 bits on the native engine, against float.

    python benchmarks/everything.py [--threads 2] [--points 32] [--repeats 3]

The photo has 1024 x 683 pixels. Both engines are asked at the same grid of points by the same
generator, `carsam.SamAutomaticMaskGenerator`, which enlarges every mask to the photo's size, as no
predicted IoU is asked for. Each run is a process of its own, and the engines take turns. Seconds
of the processor are given beside those of the clock, for machines that do other work too; both
include the encoding of the photo, but not the loading of the model.

The numbers go to benchmarks/results/everything.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from provenance import provenance

import carsam
from carsam.system import peak_memory
from carsam.threads import set_threads

RESULT = Path(__file__).parent / "results" / "everything.json"
MODEL = "sam-vit-base"
SIZE = (683, 1024)
ENGINES = ("native", "float")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--points", type=int, default=32, help="points along a side")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(*options.measure, options.points, options.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        folders = save_models(Path(folder))
        runs: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
        for engine in ENGINES * options.repeats:
            arguments = ["--points", options.points, "--threads", options.threads]
            command = [__file__, *arguments, "--measure", engine, folders[engine]]
            process = subprocess.run(
                [sys.executable, *map(str, command)], check=True, stdout=subprocess.PIPE, text=True
            )
            runs[engine].append(json.loads(process.stdout))
    rows = {engine: summary(measured) for engine, measured in runs.items()}
    result: dict[str, Any] = {
        **provenance("carsam", "numpy", "torch", "transformers"),
        "model": MODEL,
        "size": SIZE,
        "points": options.points**2,
        "threads": options.threads,
        "runs": runs,
        "medians": rows,
        "float_over_native": rows["float"]["processor"] / rows["native"]["processor"],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    for engine, row in rows.items():
        print(
            f"{engine}: {row['processor']:.1f} s of the processor, {row['clock']:.1f} s, "
            f"{row['peak_mb']:.0f} MB"
        )


def save_models(folder: Path) -> dict[str, Path]:
    """Write the model of each engine into a folder of its own."""
    from random_runs import random_model, random_run

    random_run(MODEL, "w4a4").save(folder / "native")
    random_model(MODEL).save_pretrained(folder / "float")
    return {engine: folder / engine for engine in ENGINES}


def measure(engine: str, folder: str, points: int, threads: int) -> dict[str, float]:
    """Return what everything mode takes in this process, and its peak memory."""
    set_threads(threads)
    generator = carsam.SamAutomaticMaskGenerator(
        carsam.load(folder, engine), points, pred_iou_thresh=0, output_mode="coco_rle"
    )
    noise = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)
    photo = np.asarray(Image.fromarray(noise).resize(SIZE[::-1], Image.Resampling.BICUBIC))
    clock, processor = time.perf_counter(), time.process_time()
    masks = generator.generate(photo, warn=lambda _: None)
    return {
        "processor": time.process_time() - processor,
        "clock": time.perf_counter() - clock,
        "peak_mb": peak_memory() / 1e6,
        "masks": len(masks),
    }


def summary(measured: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each number."""
    return {name: statistics.median(run[name] for run in measured) for name in measured[0]}


if __name__ == "__main__":
    main()
