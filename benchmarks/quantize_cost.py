"""What round-to-nearest costs on full-size models: seconds and peak memory, one process each.

    python benchmarks/quantize_cost.py [--threads 2]

SAM-B goes through the whole of `quantize` with 4 procedural images at W4A4; SAM-H loads and has its
weights quantized (W4A32, where the image plays no part). Weights are random: cost does not depend
on them. The numbers go to benchmarks/results/quantize_cost.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from provenance import provenance
from random_runs import random_model

from carsam.calibration.quantize import quantize
from carsam.formats.inventory import bytes_on_disk
from carsam.images.scenes import write_scenes
from carsam.progress import make_progress
from carsam.system import peak_memory
from carsam.threads import set_threads

RESULT = Path(__file__).parent / "results" / "quantize_cost.json"
JOBS = {
    "sam-vit-base w4a4": {"model": "sam-vit-base", "bits": "w4a4", "images": 4, "limit_gb": 6},
    "sam-vit-huge w4a32": {"model": "sam-vit-huge", "bits": "w4a32", "images": 1, "limit_gb": 12},
}


def run_job(name: str) -> dict:
    """Run one job in this process and return its cost."""
    job = JOBS[name]
    with tempfile.TemporaryDirectory() as folder:
        scenes, run = Path(folder) / "scenes", Path(folder) / "run"
        write_scenes(scenes, job["images"], seed=0, size=512)
        model = random_model(job["model"])
        loaded = peak_memory()
        started = time.perf_counter()
        quantized = quantize(
            model,
            scenes,
            "rtn",
            bits=job["bits"],
            count=job["images"],
            progress=make_progress("plain"),
        )
        seconds = time.perf_counter() - started
        quantized.save(run)
        return {
            **job,
            "seconds": round(seconds, 1),
            "peak_gb": round(peak_memory() / 1e9, 2),
            "peak_gb_after_loading": round(loaded / 1e9, 2),
            "checkpoint_mb": round(bytes_on_disk(run) / 1e6, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--job", choices=JOBS, help="run this one here and print its json")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
        return
    result = {**provenance("torch", "transformers", "numpy"), "threads": arguments.threads}
    result["jobs"] = {}
    for name in JOBS:
        command = [sys.executable, __file__, "--job", name, "--threads", str(arguments.threads)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        cost = json.loads(output.splitlines()[-1])
        result["jobs"][name] = cost
        print(
            f"{name}: {cost['seconds']} s, peak {cost['peak_gb']} GB "
            f"(limit {cost['limit_gb']} GB), checkpoint {cost['checkpoint_mb']} MB"
        )
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
