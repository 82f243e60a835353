"""SAM of the ggml project beside the native engine: from a photo to the mask of a box.

    python benchmarks/ggml_sam.py GGML --runs RUNS [--threads 2] [--rounds 5]

GGML is a checkout of ggml-org/ggml. Its example `sam` is built there for this processor, and its
own script converts SAM-B with random weights to float16, the only type that the example takes
beside float32. Each call is a new process, and both load their model, encode the photo that ggml's
example has, decode one box and write the mask; calls take turns. The numbers go to
benchmarks/results/ggml_sam.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from provenance import provenance
from random_runs import random_model
from speed_sam import CARSAM, PLUS, RESULTS, named_run

from carsam.families.meta_weights import meta_names
from carsam.system import linux_memory

MODEL = "sam-vit-base"
BOX = "60,60,400,400"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ggml", type=Path)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    program, converted = build(options.ggml), convert(options.ggml, options.runs / "ggml-sam-b")
    run, photo = named_run(MODEL, *PLUS, options.runs), options.ggml / "examples/sam/example.jpg"
    masks, threads = options.runs / "mask", str(options.threads)
    contenders = {
        "native w4a4 carsam-plus": [
            *(sys.executable, "-c", CARSAM, "predict", run, photo, "--box", BOX),
            *("--out", f"{masks}.png", "--threads", threads),
        ],
        "ggml float16": [
            *(program, "-m", converted, "-i", photo, "-b", BOX, "-o", masks, "-t", threads),
        ],
    }
    calls: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for repeat in range(options.rounds + 1):
        for name, command in contenders.items():
            measured = call([str(part) for part in command])
            if repeat:  # the first round fills the system's caches of files
                calls[name].append(measured)
    result = {
        **provenance("carsam", "numpy"),
        "ggml": revision(options.ggml),
        "model": MODEL,
        "threads": options.threads,
        "rows": [row(name, measured) for name, measured in calls.items()],
    }
    (RESULTS / "ggml_sam.json").write_text(json.dumps(result, indent=1) + "\n")
    for each in result["rows"]:
        print(json.dumps(each))


def build(ggml: Path) -> Path:
    """Return the program of ggml's example, built with its own settings for this processor."""
    folder = ggml / "build"
    configure = ["cmake", "-S", ggml, "-B", folder, "-DCMAKE_BUILD_TYPE=Release"]
    subprocess.run([*configure, "-DGGML_BUILD_TESTS=OFF"], check=True)
    subprocess.run(["cmake", "--build", folder, "--target", "sam"], check=True)
    return folder / "bin" / "sam"


def convert(ggml: Path, folder: Path) -> Path:
    """Return SAM-B with random weights as ggml's script converts it from Meta's names."""
    converted = folder / "ggml-model-f16.bin"
    if not converted.exists():
        folder.mkdir(parents=True, exist_ok=True)
        state = random_model(MODEL).state_dict()
        renamed = {theirs: state[name] for name, theirs in meta_names(state).items()}
        torch.save(renamed, folder / "sam_vit_b.pth")
        script = ggml / "examples" / "sam" / "convert-pth-to-ggml.py"
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([sys.executable, script, folder / "sam_vit_b.pth", folder, "1"], **quiet)
    return converted


def call(command: list[str]) -> tuple[float, float]:
    """Return the seconds and the peak megabytes of one process."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:  # what the system reports at its end includes this process's peak
        peak = max(peak, linux_memory("VmHWM", Path(f"/proc/{process.pid}/status")))
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}.")
    return time.perf_counter() - started, peak / 2**20


def revision(ggml: Path) -> str:
    """Return the commit of the checkout."""
    asked = ["git", "-C", ggml, "rev-parse", "HEAD"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def row(name: str, measured: list[tuple[float, float]]) -> dict[str, object]:
    """Return the numbers of one contender."""
    seconds, megabytes = zip(*measured, strict=True)
    return {
        "engine": name,
        "seconds": round(statistics.median(seconds), 3),
        "least": round(min(seconds), 3),
        "most": round(max(seconds), 3),
        "peak_mb": round(max(megabytes)),
    }


if __name__ == "__main__":
    main()
