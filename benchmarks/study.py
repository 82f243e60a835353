"""Study methods where they can differ: agreement with the float masks, paired by prompt and seed.

    python benchmarks/study.py DATA OUT --study paper --models sam-mini,MODELS/key-peaks
        --modes strict,legacy --seeds 5 --part reporting

Every row of a study is quantized with every seed and measured on the same prompts (`study_images`
says on which images); the table shows the paired differences from the row's baseline with
intervals over images and seeds, and how many seeds would show a smaller one. `--row` adds rows of
your own: --row 'slow < none, uniform: carsam -compensate reconstruct.steps=900'.

By default only the decoder is quantized: the encoder stays float, and an image is encoded once per
model for all rows. OUT gets a json per cell and is continued where it was stopped."""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict
from os.path import abspath
from pathlib import Path
from typing import Any

from provenance import provenance
from study_cell import StudyCell
from study_figures import save_figures
from study_images import PARTS
from study_rows import MODES, STUDIES, StudyRow, has_legacy, parse_row
from study_table import Results, document, markdown

from carsam.errors import UserError
from carsam.families import source_name
from carsam.formats.files import write_whole


def cells_of(options: argparse.Namespace) -> list[StudyCell]:
    """Return the cells: of each model the float one first, then seed by seed."""
    rows = [row for name in options.study for row in STUDIES[name]]
    rows += [parse_row(text) for text in options.row]
    if not rows:
        raise UserError("No row to study: give --study or --row.")
    models = [str(source_name(model)) for model in options.models.split(",")]
    cells = []
    for model in models:
        cells.append(_cell(options, model, None, MODES[0], 0))
        for seed in range(options.seeds):
            for mode in options.modes.split(","):
                fitting = rows if mode == MODES[0] else [row for row in rows if has_legacy(row)]
                cells += [_cell(options, model, row, mode, seed) for row in fitting]
    return cells


def _cell(
    options: argparse.Namespace, model: str, row: StudyRow | None, mode: str, seed: int
) -> StudyCell:
    return StudyCell(
        model,
        row,
        mode,
        seed,
        options.bits,
        tuple(options.set),
        options.encoder == "float",
        abspath(options.data),
        options.part,
        options.count,
        options.clicks,
        options.limit,
        options.threads,
    )


def finished(cell: StudyCell, folder: Path) -> dict[str, Any] | None:
    """Return the result of a cell that was done before; UserError if it was another study's.

    What its row is compared with may have changed since.
    """
    path = folder / "cells" / f"{cell.name}.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_bytes())
    if result["cell"]["row"] and cell.row:
        result["cell"]["row"]["baseline"] = cell.row.baseline
    if result["cell"] != cell.facts:
        raise UserError(f"{path} is of another study; give another OUT, or remove it.")
    return result


def run_cell(cell: StudyCell, folder: Path) -> dict[str, Any] | None:
    """Run a cell in a process of its own; None if it fails, which its messages explain."""
    path = folder / "cells" / f"{cell.name}.plan"
    write_whole(path, json.dumps(asdict(cell)), "Make room.")
    script = Path(__file__).with_name("study_cell.py")
    subprocess.run([sys.executable, str(script), str(path)])
    path.unlink()
    return finished(cell, folder)


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with coco, davis and extra")
    parser.add_argument("out", type=Path)
    parser.add_argument("--study", action="append", choices=STUDIES, default=[])
    parser.add_argument("--row", action="append", default=[], help="NAME < BASELINE: RECIPE -STEP")
    parser.add_argument("--models", default="sam-mini", help="separated by commas")
    parser.add_argument("--modes", default="strict", help="strict, legacy or both")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bits", default="w4a4")
    parser.add_argument("--set", action="append", default=[], help="step.parameter=value")
    parser.add_argument("--encoder", choices=("float", "quantized"), default="float")
    parser.add_argument("--part", choices=PARTS, default=PARTS[0])
    parser.add_argument("--count", type=int, default=32, help="calibration images")
    parser.add_argument("--clicks", type=float, default=0.5, help="share of clicks among prompts")
    parser.add_argument("--limit", type=int, help="measure on so few images, for a first look")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def main() -> None:
    """Run what is left of a study and write its table."""
    options = parser().parse_args()
    results: Results = defaultdict(dict)
    groups: dict[str, list[str]] = {}
    kinds: dict[str, list[str]] = {}
    for cell in cells_of(options):
        known = finished(cell, options.out)
        result = known or run_cell(cell, options.out)
        model = Path(cell.model).name
        if result is None:
            print(f"{cell.name} failed; the same command tries it again.", flush=True)
            continue
        if cell.row is None:
            groups[model] = [a["group"] for a in result["answers"] for _ in a["kinds"]]
            kinds[model] = [kind for a in result["answers"] for kind in a["kinds"]]
            continue
        results[model, cell.row.name, cell.mode][cell.seed] = result
        if known is None:
            print(f"{cell.name}: {result['seconds']:.0f} s", flush=True)
            _save(document(results, groups, kinds), results, groups, options)
    rows = document(results, groups, kinds)
    _save(rows, results, groups, options)
    print(markdown(rows))


def _save(
    rows: list[dict[str, Any]],
    results: Results,
    groups: dict[str, list[str]],
    options: argparse.Namespace,
) -> None:
    about = {**provenance("torch", "transformers", "numpy"), "part": options.part}
    about |= {"prompts": {model: len(names) for model, names in groups.items()}}
    table = json.dumps({**about, "rows": rows}, indent=1)
    write_whole(options.out / "study.json", f"{table}\n", "Make room.")
    write_whole(options.out / "study.md", markdown(rows), "Make room.")
    save_figures(results, options.out)


if __name__ == "__main__":
    main()
