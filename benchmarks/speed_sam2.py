"""Speed and memory of SAM 2.1 on this machine, tracking included, beside other runtimes.

    python benchmarks/speed_sam2.py --runs RUNS --peers PEERS [--threads 2] [--only tiny]

Needs the extras `quantize` and `bench`. Models have random weights, inputs of 1024 pixels, 4 bits,
and grids as `carsam-plus` makes them; they are made in RUNS and the other runtimes' in PEERS when
they are not there yet. Numbers go to benchmarks/results/speed_sam2_<model>.json, the table to the
.md beside it. Only the native engine and transformers track: the exports have no memory.
"""

import argparse
from pathlib import Path

from speed_sam import BFLOAT16, PLUS, RESULTS, has_bfloat16, named_run, run_carsam

MODELS = {"tiny": "sam2-video-hiera-tiny", "base_plus": "sam2-video-hiera-base-plus"}
ENGINES = "native,float,float-eager"
PEERS = ["onnxruntime-dynamic", "openvino"]
FEWER_MEMORIES = "3,1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default=",".join(MODELS))
    given = parser.parse_args()
    against = ",".join([*PEERS, BFLOAT16] if has_bfloat16() else PEERS)
    for name in given.only.split(","):
        run = named_run(MODELS[name], *PLUS, given.runs)
        result = RESULTS / f"speed_sam2_{name}"
        run_carsam(
            *("bench", run, "--engine", ENGINES, "--against", against),
            *("--memory-frames", FEWER_MEMORIES, "--peers", str(given.peers)),
            *("--threads", str(given.threads), "--repeats", str(given.rounds)),
            *("--json", f"{result}.json", "--markdown", f"{result}.md"),
        )


if __name__ == "__main__":
    main()
