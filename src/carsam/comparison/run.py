"""Run every cell of a comparison that has no result yet."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import abspath
from pathlib import Path
from typing import Any

from carsam.comparison.cell import Cell
from carsam.errors import UserError
from carsam.families import source_name
from carsam.methods.registry import LEGACY_RECIPES, RECIPES
from carsam.progress import Progress
from carsam.system import python_command


@dataclass(frozen=True)
class Plan:
    """A comparison: every recipe at every bit width with every seed, and the float model once.

    Args: as of `Cell`, in the plural where there are several.
    """

    model: str
    recipes: tuple[str, ...]
    bits: tuple[str, ...]
    seeds: int
    coco: Path
    images: Path
    calibration: Path
    calibration_coco: Path | None
    count: int
    settings: tuple[str, ...]
    device: str
    threads: int
    engine: str
    limit: int | None

    def cells(self) -> list[Cell]:
        """Return the float cell, then all others; their paths mean the same in every folder."""
        jobs = [
            (recipe, bits, seed)
            for bits in self.bits
            for recipe in self.recipes
            for seed in range(self.seeds)
        ]
        avoid = evaluated_names(self.coco)
        return [
            Cell(
                source_name(self.model),
                recipe,
                bits,
                seed,
                abspath(self.coco),
                abspath(self.images),
                abspath(self.calibration),
                None if self.calibration_coco is None else abspath(self.calibration_coco),
                avoid,
                self.count,
                self._settings(recipe),
                self.device,
                self.threads,
                self.engine,
                self.limit,
            )
            for recipe, bits, seed in [("float", "float", 0), *jobs]
        ]

    def _settings(self, recipe: str) -> tuple[str, ...]:
        """Return the settings of steps that the recipe has."""
        known = {**RECIPES, **LEGACY_RECIPES}
        steps = {step.name for step in known[recipe].steps} if recipe in known else set()
        return tuple(setting for setting in self.settings if setting.split(".")[0] in steps)


def evaluated_names(coco: Path) -> tuple[str, ...]:
    """Return the file names of a json's images, sorted."""
    from carsam.evaluation.coco_data import read_coco

    return tuple(sorted(image.file_name for image in read_coco(coco).images))


def run_plan(plan: Plan, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Run the cells one after the other, each in its own process; finished ones are kept.

    Args:
        folder: gets one json per cell and one per result; run again to go on after a stop.

    Returns:
        The results, in the order of the plan. A cell that failed has `error` and no `evaluation`.

    Raises:
        UserError: the folder holds results of another comparison.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cells = plan.cells()
    results = []
    progress.start("Comparing", len(cells))
    for cell in cells:
        result = _finished(cell, folder) or _run(cell, folder)
        if "error" in result:
            progress.warn(f"{cell.name} failed: {result['error']}")
        results.append(result)
        progress.advance(note=cell.name)
    progress.finish()
    return results


def _finished(cell: Cell, folder: Path) -> dict[str, Any] | None:
    path = folder / f"{cell.name}.result.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text())
    if result["cell"] != json.loads(json.dumps(cell.to_json())):
        raise UserError(
            f"{path} is the result of another comparison (other images, settings or threads). "
            "Give another --out folder, or remove this one."
        )
    return result


def _run(cell: Cell, folder: Path) -> dict[str, Any]:
    path = folder / f"{cell.name}.json"
    path.write_text(json.dumps(cell.to_json(), indent=1) + "\n")
    command = [*python_command("carsam.comparison.cell"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines: Sequence[str] = done.stderr.strip().splitlines() or ["no message"]
        return {"cell": cell.to_json(), "error": lines[-1]}
    path.unlink()
    result: dict[str, Any] = json.loads((folder / f"{cell.name}.result.json").read_text())
    return result
