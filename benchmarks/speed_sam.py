"""Speed and memory of SAM on this machine: every engine and every other runtime, in one table.

    python benchmarks/speed_sam.py --runs RUNS --peers PEERS [--threads 2] [--only sam-vit-base,...]

Needs the extras `quantize` and `bench`. Quantized models, of `carsam-plus` and of `rtn`, are made
in RUNS and the other runtimes' models in PEERS when they are not there yet; of sam-mini the bundled
run takes part. Each model's numbers go to benchmarks/results/speed_<model>.json and its table to
benchmarks/results/speed_<model>.md.

With `--hide-avx512` every process finds a processor that has AVX2 and nothing newer
(hide_avx512.c; needs a C compiler and a processor with the flag `cpuid_fault`), and the results'
names end in `_avx2`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
CARSAM = "import sys; from carsam.cli import main; sys.argv[0] = 'carsam'; sys.exit(main())"
BFLOAT16 = "openvino-bf16,openvino-int8-f32"
"""Where the processor computes in bfloat16, which OpenVINO's int8 model then does as well."""
EVERYONE = ["--engine", "native,simulated,float,float-eager", "--against", "onnxruntime,openvino"]
PLUS, RTN, RTN8 = ("carsam-plus", "w4a4"), ("rtn", "w4a4"), ("rtn", "w8a8")
MODELS = {
    "sam-vit-base": ([PLUS, RTN, RTN8], 3, EVERYONE),
    "sam-mini": ([PLUS, RTN, RTN8], 3, EVERYONE),
    "sam-vit-large": ([PLUS, RTN], 1, []),
    "sam-vit-huge": ([PLUS, RTN], 1, []),
}
"""Models: recipes and bits that the native engine runs, rounds, and the other contenders."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="instead of each model's own number")
    parser.add_argument("--isa", default="", help="instruction sets, the best unless given")
    parser.add_argument("--only", default=",".join(MODELS))
    parser.add_argument("--hide-avx512", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.hide_avx512:
            os.environ["LD_PRELOAD"] = str(_compile_hider(Path(folder)))
        _measure(arguments)


def _measure(arguments: argparse.Namespace) -> None:
    bfloat16 = not arguments.hide_avx512 and has_bfloat16()
    ending = "_avx2" if arguments.hide_avx512 else ""
    for model in arguments.only.split(","):
        kinds, rounds, others = MODELS[model]
        runs = [named_run(model, recipe, bits, arguments.runs) for recipe, bits in kinds]
        also = [part for run in runs[1:] for part in ("--also", run)]
        bf16 = [f"{name},{BFLOAT16}" if "openvino" in name else name for name in others]
        result = RESULTS / f"speed_{model}{ending}"
        run_carsam(
            *("bench", runs[0], *also, *(bf16 if bfloat16 else others)),
            *("--peers", str(arguments.peers), "--threads", str(arguments.threads)),
            *("--repeats", str(arguments.rounds or rounds), "--isa", arguments.isa),
            *("--json", f"{result}.json", "--markdown", f"{result}.md"),
        )


def named_run(model: str, recipe: str, bits: str, folder: Path) -> str:
    """Return a quantized model, which is made if it is not there."""
    if (model, recipe) == ("sam-mini", "carsam-plus"):
        return "sam-mini-w4a4"
    run = folder / f"{model}-{bits}-{recipe}"
    if not run.exists():
        if model == "sam-mini":
            _quantize_mini(recipe, bits, run)
        else:
            script = Path(__file__).with_name("random_runs.py")
            subprocess.run([sys.executable, script, model, bits, run, recipe], check=True)
    return str(run)


def _quantize_mini(recipe: str, bits: str, run: Path) -> None:
    from carsam.images.scenes import write_scenes

    with tempfile.TemporaryDirectory() as folder:
        scenes = Path(folder) / "scenes"
        write_scenes(scenes, 1, seed=0, size=512)
        options = ["--images", str(scenes), "--recipe", recipe, "--bits", bits, "--count", "1"]
        run_carsam("quantize", "sam-mini", *options, "--out", str(run))


def run_carsam(*arguments: str) -> None:
    """Run a command of carsam in a process of its own."""
    subprocess.run([sys.executable, "-c", CARSAM, *arguments], check=True)


def _compile_hider(folder: Path) -> Path:
    library = folder / "hide_avx512.so"
    source = Path(__file__).with_name("hide_avx512.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16, which OpenVINO then does unless told not to."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(
        flag in cpuinfo.read_text().split() for flag in ("avx512_bf16", "amx_bf16")
    )


if __name__ == "__main__":
    main()
