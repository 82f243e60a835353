"""The table of all methods from many `carsam compare` runs.

    python benchmarks/accuracy_table.py CELLS...

Adds the results in the folders CELLS (`cells` of a `carsam compare --out`, same model, images and
engine) to benchmarks/results/compare.json, draws docs/figures/accuracy.svg and cost.svg anew, and
prints the table in Markdown. A result of the same recipe, bits and seed is replaced.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from carsam.comparison.plot import save_cost_plot, save_plot
from carsam.comparison.table import markdown, rows
from carsam.methods.registry import LEGACY_RECIPES, RECIPES

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "compare.json"
FIGURES = ROOT / "docs" / "figures"
BITS = ("float", "w8a8", "w6a6", "w4a4", "w3a3")
COST = ("seconds", "peak_mb")
RECIPE_ORDER = ("float", *RECIPES, *LEGACY_RECIPES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", type=Path, nargs="*")
    parser.add_argument("--untimed", action="store_true", help="leave out what calibration cost")
    arguments = parser.parse_args()
    document = json.loads(RESULT.read_text())
    known = {_key(cell): cell for cell in document["cells"]}
    for folder in arguments.cells:
        for path in sorted(folder.glob("*.result.json")):
            cell = _shorten(json.loads(path.read_text()), document["about"], arguments.untimed)
            known[_key(cell)] = cell
    document["cells"] = sorted(known.values(), key=_key)
    table = rows([_lengthen(cell) for cell in document["cells"]])
    document["rows"] = [dataclasses.asdict(row) for row in table]
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    by_recipe = sorted(table, key=lambda row: RECIPE_ORDER.index(row.recipe))
    save_plot(by_recipe, FIGURES / "accuracy.svg")
    save_cost_plot([row for row in table if row.bits in ("float", "w4a4")], FIGURES / "cost.svg")
    print(markdown(table), end="")


def _key(cell: dict[str, Any]) -> tuple[int, int, int]:
    """Place of a cell in the table."""
    return BITS.index(cell["bits"]), RECIPE_ORDER.index(cell["recipe"]), cell["seed"]


def _shorten(result: dict[str, Any], about: dict[str, Any], untimed: bool) -> dict[str, Any]:
    """Keep of a result what the table needs; refuse one that was measured on something else."""
    evaluation, cell = result["evaluation"], result["cell"]
    for fact in ("ids_sha256", "prompts", "score"):
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
        **{f"calibration_{name}": calibration[name] for name in COST if name in calibration},
    }


def _lengthen(cell: dict[str, Any]) -> dict[str, Any]:
    """The result of `carsam compare` that a cell was made from, as far as the table reads it."""
    result = {"cell": cell, "evaluation": dict(cell)}
    if cell["recipe"] in LEGACY_RECIPES:
        result["evaluation"]["mode"] = "legacy"
    if "calibration_seconds" in cell:
        result["calibration"] = {name: cell[f"calibration_{name}"] for name in COST}
    return result


if __name__ == "__main__":
    main()
