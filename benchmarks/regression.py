"""Whether a kernel has become slower: instructions counted by callgrind, against recorded ones.

    python benchmarks/regression.py [--record]

Needs valgrind (on Debian: apt-get install valgrind) and a C compiler. Valgrind has neither AVX-512
nor VNNI, so the kernels of `avx2` and `portable` are counted. What else the machine does changes
nothing, but each compiler makes other instructions: counts are recorded for each of them, in
benchmarks/results/instructions.json. The exit code is 1 if a kernel needs over 3 % more
instructions than recorded; for a compiler without recorded counts there is nothing to compare.

With `--record` the counts of this compiler are written anew, which is right after a change that is
worth its instructions; the commit should say why.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from carsam.runtime import _kernels

HERE = Path(__file__).parent
RESULT = HERE / "results" / "instructions.json"
TOLERANCE = 0.03

Counts = dict[str, int]
"""Instructions by instruction set and kernel, as in `avx2/rounding`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write this compiler's counts anew")
    record = parser.parse_args().record
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not there; on Debian: apt-get install valgrind")
    found = count()
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if record:
        results[compiler()] = found
        RESULT.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        print(f"{RESULT}: {len(found)} counts for {compiler()}")
    elif compiler() not in results:
        print(f"No counts are recorded for {compiler()}; found {', '.join(results)}.")
    else:
        sys.exit(compare(found, results[compiler()]))


def compiler() -> str:
    """Return the compiler that built the kernels, and for what, as the library's comments say."""
    content = Path(_kernels.__file__).read_bytes()
    named = re.search(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", content)
    return f"{named[0].decode() if named else 'unknown compiler'}, {platform.machine()}"


def count() -> Counts:
    """Return the instructions of every kernel on every set that valgrind runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marks = folder / "marks.so"
        source = HERE / "callgrind_marks.c"
        compile_ = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", marks, source]
        subprocess.run(compile_, check=True)
        options = ["--tool=callgrind", "--instr-atstart=no", "--quiet"]
        options.append(f"--callgrind-out-file={folder / 'counts'}")
        worker = [sys.executable, HERE / "counted_kernels.py", marks]
        alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        subprocess.run(["valgrind", *options, *worker], check=True, env={**os.environ, **alone})
        dumps = [path.read_text() for path in folder.glob("counts.*")]
    return dict(counts for dump in dumps for counts in named_counts(dump))


def named_counts(dump: str) -> list[tuple[str, int]]:
    """Return the name that a dump was asked for with, and its instructions; none at the end."""
    names = re.findall(r"^desc: Trigger: Client Request: (.*)$", dump, re.M)
    totals = re.findall(r"^totals: (\d+)$", dump, re.M)
    return [(name, int(total)) for name, total in zip(names, totals, strict=False)]


def compare(found: Counts, recorded: Counts) -> int:
    """Print every kernel beside what is recorded; return 1 if one has become slower, else 0."""
    slower = []
    for name in sorted(found | recorded):
        if name not in found or name not in recorded:
            print(f"{name}: {'not counted here' if name in recorded else 'not recorded'}")
            continue
        change = found[name] / recorded[name] - 1
        print(f"{name}: {found[name]} instructions, {change:+.2%}")
        if found[name] > (1 + TOLERANCE) * recorded[name]:
            slower.append(name)
    if slower:
        print(f"More than {TOLERANCE:.0%} above what is recorded: {', '.join(slower)}.")
        print("If that is intended, record it: python benchmarks/regression.py --record")
    return 1 if slower else 0


if __name__ == "__main__":
    main()
