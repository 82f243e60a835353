"""The table of all methods from many `carsam compare` runs.

    python benchmarks/accuracy_table.py CELLS... [--model sam2-mini]

Adds the results in the folders CELLS (`cells` of a `carsam compare --out`, same model, images and
engine) to the model's json in benchmarks/results, draws its figures in docs/figures anew, and
prints the table in Markdown. A result of the same recipe, bits and seed is replaced.
"""

import argparse
import dataclasses
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from carsam.benchmark.machine import hardware
from carsam.comparison.by_frame import by_frame
from carsam.comparison.plot import save_frame_plot, save_plot
from carsam.comparison.table import markdown, rows
from carsam.formats.bits import Bits
from carsam.methods.registry import LEGACY_RECIPES, RECIPES

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
NAMES = {"sam-mini": "compare.json", "sam2-mini": "compare_sam2-mini.json"}
FIGURES = ROOT / "docs" / "figures"
FACTS = ("ids_sha256", "prompts", "score")
COST = ("seconds", "peak_mb")
RECIPE_ORDER = ("float", *RECIPES, *LEGACY_RECIPES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", type=Path, nargs="*")
    parser.add_argument("--model", choices=NAMES, default="sam-mini")
    parser.add_argument("--untimed", action="store_true", help="leave out what calibration cost")
    arguments = parser.parse_args()
    target = RESULTS / NAMES[arguments.model]
    found = [
        json.loads(path.read_text())
        for folder in arguments.cells
        for path in sorted(folder.glob("*.result.json"))
    ]
    document = json.loads(target.read_text()) if target.exists() else _begun(found)
    known = {_key(cell): cell for cell in document["cells"]}
    for result in found:
        cell = _shorten(result, document["about"], arguments.untimed)
        known[_key(cell)] = cell
    document["cells"] = sorted(known.values(), key=_key)
    table = rows([_lengthen(cell) for cell in document["cells"]])
    document["rows"] = [dataclasses.asdict(row) for row in table]
    target.write_text(json.dumps(document, indent=1) + "\n")
    if curves := _curves(document["cells"]):
        save_frame_plot(curves, FIGURES / "by_frame.svg")
    else:
        by_recipe = sorted(table, key=lambda row: RECIPE_ORDER.index(row.recipe))
        save_plot(by_recipe, FIGURES / "accuracy.svg")
    print(markdown(table), end="")


def _begun(results: list[dict[str, Any]]) -> dict[str, Any]:
    """A table without rows, of what the first result was measured on."""
    evaluation, cell = results[0]["evaluation"], results[0]["cell"]
    return {
        **hardware(),
        "about": {
            "model": cell["model"],
            "coco": Path(cell["coco"]).name,
            **{fact: evaluation[fact] for fact in ("images", "instances", *FACTS, "versions")},
            "calibration_images": cell["calibration"]["count"],
            **{fact: cell[fact] for fact in ("engine", "threads")},
        },
        "cells": [],
    }


def _key(cell: dict[str, Any]) -> tuple[int, ...]:
    """Place of a cell in the table."""
    together, weights = Bits.parse(cell["bits"]).size
    return -together, -weights, RECIPE_ORDER.index(cell["recipe"]), cell["seed"]


def _shorten(result: dict[str, Any], about: dict[str, Any], untimed: bool) -> dict[str, Any]:
    """Keep of a result what the table needs; refuse one that was measured on something else."""
    evaluation, cell = result["evaluation"], result["cell"]
    for fact in FACTS:
        if evaluation[fact] != about[fact]:
            raise SystemExit(
                f"{cell['recipe']} {cell['bits']} has {fact} {evaluation[fact]}; the table has "
                f"{about[fact]}. Give results of the same evaluation."
            )
    calibration = {} if untimed else result.get("calibration", {})  # float has none
    return {
        **{name: cell[name] for name in ("recipe", "bits")},
        "seed": cell["calibration"]["seed"],
        "coco": evaluation["coco"],
        "coco_interval": evaluation["intervals"],
        "mean_iou": evaluation["mean_iou"],
        **_followed(result),
        **{f"calibration_{name}": calibration[name] for name in COST if name in calibration},
    }


def _followed(result: dict[str, Any]) -> dict[str, Any]:
    """Keep of a measurement on videos J&F, its intervals, and its mean at every judged frame."""
    if "davis" not in result:
        return {}
    ((_, curve),) = by_frame([result]).items()
    facts = {fact: result["davis"][fact] for fact in ("J_and_F", "intervals")}
    return {"davis": {**facts, "by_frame": [round(value, 2) for value in curve]}}


def _curves(cells: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """J&F by frame, in percent, of recipe and bits: means over seeds."""
    found = defaultdict(list)
    for cell in cells:
        if "davis" in cell:
            found[cell["recipe"], cell["bits"]].append(cell["davis"]["by_frame"])
    return {
        key: [statistics.mean(frame) for frame in zip(*curves, strict=True)]
        for key, curves in found.items()
    }


def _lengthen(cell: dict[str, Any]) -> dict[str, Any]:
    """The result of `carsam compare` that a cell was made from, as far as the table reads it."""
    result = {"cell": cell, "evaluation": dict(cell)}
    if "davis" in cell:
        result["davis"] = cell["davis"]
    if cell["recipe"] in LEGACY_RECIPES:
        result["evaluation"]["mode"] = "legacy"
    if "calibration_seconds" in cell:
        result["calibration"] = {name: cell[f"calibration_{name}"] for name in COST}
    return result


if __name__ == "__main__":
    main()
