"""The integer product at SAM-B's shapes, against what this machine's instructions allow.

    python benchmarks/product.py [--threads 2] [--repeats 15]

Needs a C++ compiler for the instruction ceilings (ceilings.cpp). Shapes, instruction sets and
outputs take turns. The numbers go to benchmarks/results/product.json.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from provenance import provenance

from carsam.runtime import _kernels, kernels
from carsam.runtime.grids import CodeGrid, Codes
from carsam.runtime.matrices import PackedMatrix

RESULT = Path(__file__).parent / "results" / "product.json"
ROWS = 4096
SHAPES = ((768, 768), (768, 3072), (3072, 768))
"""Columns of the input, columns of the output."""
OUTPUTS = {"float": (None, False), "codes": (None, True), "gelu, codes": ("gelu", True)}
"""Activation, and whether the output is codes, by name."""
CEILINGS = {
    ("avx2", 4): "vpmaddubsw+vpaddw",
    ("avx2", 8): "vpmaddubsw+vpmaddwd+vpaddd",
    ("avxvnni", 4): "vpdpbusd-256",
    ("avxvnni", 8): "vpdpbusd-256",
    ("avx512vnni", 4): "vpdpbusd-512",
    ("avx512vnni", 8): "vpdpbusd-512",
    ("amx", 4): "tdpbusd",
    ("amx", 8): "tdpbusd",
}
"""Loop of ceilings.cpp that an instruction set's kernel is built on, by bits."""
NOT_MEASURED = {"portable", "amx-emulated"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    kernels.set_threads(arguments.threads)
    sets = [name for name in _kernels.usable_sets() if name not in NOT_MEASURED]
    cases = list(itertools.product(sets, (4, 8), SHAPES, OUTPUTS))
    work = {(bits, shape): _operands(bits, *shape) for bits in (4, 8) for shape in SHAPES}
    before = _ceilings(arguments.threads)
    seconds: dict[tuple, list[float]] = {case: [] for case in cases}
    for case in cases * (arguments.repeats + 1):
        seconds[case].append(_time(case, *work[case[1], case[2]]))
    after = _ceilings(arguments.threads)
    ceilings = {name: max(before[name], after[name]) for name in before}
    rows = [_row(case, calls[1:], ceilings) for case, calls in seconds.items()]
    result = {
        **provenance("carsam", "numpy"),
        "threads": arguments.threads,
        "ceilings_gmacs": ceilings,
        "products": rows,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        share = "" if row["of_ceiling"] is None else f", {row['of_ceiling']:.0%} of its ceiling"
        print(
            f"{row['instruction_set']} u{row['bits']} x s{row['bits']} {row['shape']} -> "
            f"{row['output']}: {row['gmacs']} GMAC/s{share}"
        )


def _operands(bits: int, columns: int, width: int) -> tuple[Codes, PackedMatrix, CodeGrid]:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 1 << bits, (ROWS, columns), np.uint8)
    weights = generator.integers(0, 1 << bits, (width, columns), np.uint8)
    grid = CodeGrid(np.float32(0.1), 1 << (bits - 1), bits)
    scale = np.full(width, 0.01, np.float32)
    zero_point = np.full(width, 1 << (bits - 1), np.uint8)
    return Codes(codes, grid), PackedMatrix.from_codes(weights, bits, scale, zero_point), grid


def _time(case: tuple, tensor: Codes, weight: PackedMatrix, grid: CodeGrid) -> float:
    name, _, _, output = case
    kernels.use_instruction_set(name)
    activation, to_codes = OUTPUTS[output]
    bias = np.zeros(weight.rows, np.float32)
    started = time.perf_counter()
    kernels.linear(tensor, weight, bias, activation, output=grid if to_codes else None)
    return time.perf_counter() - started


def _row(case: tuple, seconds: list[float], ceilings: dict[str, float]) -> dict:
    name, bits, (columns, width), output = case
    products = ROWS * columns * width / 1e9
    gmacs = products / statistics.median(seconds)
    ceiling = ceilings.get(CEILINGS.get((name, bits), ""))
    return {
        "instruction_set": name,
        "bits": bits,
        "shape": f"{ROWS} x {columns} x {width}",
        "output": output,
        "gmacs": round(gmacs, 1),
        "least": round(products / max(seconds), 1),
        "most": round(products / min(seconds), 1),
        "of_ceiling": None if ceiling is None else round(gmacs / ceiling, 3),
    }


def _ceilings(threads: int) -> dict[str, float]:
    """Return GMAC/s of register-only loops, by name; empty on other processors than x86."""
    source = Path(__file__).with_name("ceilings.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "ceilings"
        command = ["c++", "-O2", "-std=c++17", "-pthread", source, "-o", program]
        if subprocess.run(command, capture_output=True).returncode != 0:
            return {}
        output = subprocess.run([program, str(threads), "0.5"], check=True, stdout=subprocess.PIPE)
    lines = (line.split() for line in output.stdout.decode().splitlines())
    return {name: float(rate) for name, rate in lines}


if __name__ == "__main__":
    main()
