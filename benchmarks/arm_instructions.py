"""Instructions of the kernels for ARM, as QEMU counts them: a table, and a result.

    sh scripts/count_arm.sh

compiles the kernels and runs counted_kernels.py with qemu_counter.c. How long the instructions take
on a processor is not known: of two sets the one with fewer need not be the faster one.
"""

import json
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "instructions_arm.json"

Counts = dict[str, int]
"""Instructions by instruction set and kernel, as in `neon/rounding`."""


def main() -> None:
    counts, compiler, emulator = Path(sys.argv[1]).read_text(), *sys.argv[2:]
    found = named_counts(counts)
    result = {"compiler": compiler, "emulator": emulator, "instructions": found}
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print("\n".join(table(found)))


def named_counts(lines: str) -> Counts:
    """Return the counts that have the name of a kernel, of lines of a name and a count."""
    pairs = [line.split("\t") for line in lines.splitlines()]
    return {name: int(count) for name, count in pairs if "/" in name}


def table(found: Counts) -> list[str]:
    """Return the lines of a table of thousands, with how many times fewer than `portable`."""
    sets = list(dict.fromkeys(name.partition("/")[0] for name in found))
    kernels = list(dict.fromkeys(name.partition("/")[2] for name in found))
    others = [chosen for chosen in sets if chosen != "portable"]
    lines = ["| | portable |" + "".join(f" {chosen} | x |" for chosen in others)]
    lines.append("|---|---:|" + "---:|---:|" * len(others))
    for kernel in kernels:
        portable = found[f"portable/{kernel}"]
        cells = [f"{portable / 1000:.0f}"]
        for chosen in others:
            count = found[f"{chosen}/{kernel}"]
            cells += [f"{count / 1000:.0f}", f"{portable / count:.1f}"]
        lines.append(f"| {kernel} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
