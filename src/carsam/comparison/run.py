"""Run every cell of a comparison that has no result yet."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from os.path import abspath
from pathlib import Path
from typing import Any

from carsam.calibration.record import Calibration
from carsam.comparison.cell import Cell
from carsam.comparison.jobs import running
from carsam.errors import UserError
from carsam.families import source_name
from carsam.formats.locks import locked
from carsam.methods.recipe import parse_setting
from carsam.methods.registry import make_recipe
from carsam.progress import Progress


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
    image_size: int | None = None
    davis: Path | None = None

    def cells(self) -> list[Cell]:
        """Return the float cell, then all others, each with the settings that fit its recipe.

        Their paths mean the same in every folder.

        Raises:
            UserError: as `settings_by_recipe`.
        """
        jobs = [
            (recipe, bits, seed)
            for bits in self.bits
            for recipe in self.recipes
            for seed in range(self.seeds)
        ]
        settings = settings_by_recipe(self.recipes, self.settings)
        calibration = Calibration(
            abspath(self.calibration),
            None if self.calibration_coco is None else abspath(self.calibration_coco),
            avoid=evaluated_names(self.coco, self.images),
            count=self.count,
            device=self.device,
        )
        return [
            Cell(
                source_name(self.model),
                recipe,
                bits,
                settings.get(recipe, ()),
                replace(calibration, seed=seed),
                abspath(self.coco),
                abspath(self.images),
                self.threads,
                self.engine,
                self.limit,
                self.image_size,
                None if self.davis is None else abspath(self.davis),
            )
            for recipe, bits, seed in [("float", "float", 0), *jobs]
        ]


def settings_by_recipe(
    recipes: Sequence[str], settings: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the settings of each recipe: those of steps that it has, at its ends included.

    Args:
        recipes: names.
        settings: `step.parameter=value`.

    Raises:
        UserError: a recipe is not known, or a setting is not understood or fits none of them.
    """
    steps = {name: {step.name for step in make_recipe(name, "float").all_steps} for name in recipes}
    wanted = {setting: parse_setting(setting)[0] for setting in settings}
    known = sorted(set().union(*steps.values()))
    for setting, step in wanted.items():
        if step not in known:
            near = " or ".join(get_close_matches(step, known))
            raise UserError(
                f'Setting "{setting}" fits none of the recipes {", ".join(recipes)}: no step is '
                f"called {step}. {f'Is {near} meant? ' if near else ''}"
                f"Their steps are {', '.join(known)}."
            )
    own = {
        name: tuple(setting for setting in settings if wanted[setting] in steps[name])
        for name in recipes
    }
    for name, fitting in own.items():
        make_recipe(name, "float", settings=fitting)  # refuses what a step does not take
    return own


def evaluated_names(coco: Path, images: Path) -> tuple[str, ...]:
    """Return the paths in the folder `images` of a json's images, sorted."""
    from carsam.evaluation.coco_reading import read_coco
    from carsam.evaluation.image_files import on_disk
    from carsam.evaluation.warning_log import WarningLog

    found = on_disk(read_coco(coco), images, WarningLog(coco))
    return tuple(sorted({image.file_name for image in found.images}))


def run_plan(plan: Plan, folder: Path, progress: Progress, jobs: int = 1) -> list[dict[str, Any]]:
    """Run the cells that have no result yet, each in its own process.

    Args:
        folder: gets one json per cell and one per result; run it again to continue after a stop.
        jobs: cells that run at the same time.

    Returns:
        The results, in the order of the plan. A cell that failed has `error` and no `evaluation`.

    Raises:
        UserError: the folder holds results of another comparison, or another process fills it.
    """
    cells = plan.cells()
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"Another comparison (process HOLDER) writes to {folder}. Wait for it to end."
    with locked(folder / ".lock", busy):
        results = {cell: _finished(cell, folder) for cell in cells}
        progress.start("Comparing", len(cells))
        for cell in (cell for cell, result in results.items() if result):
            progress.advance(note=cell.name)
        left = [cell for cell, result in results.items() if result is None]
        with running(left, folder, jobs) as finished:
            for cell, made in finished:
                if "error" in made:
                    progress.warn(f"{cell.name} failed: {made['error']}")
                results[cell] = made
                progress.advance(note=cell.name)
        progress.finish()
    return [result for cell in cells if (result := results[cell]) is not None]


def _finished(cell: Cell, folder: Path) -> dict[str, Any] | None:
    path = folder / f"{cell.name}.result.json"
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}). Remove it to run it again.") from error
    if result["cell"] != json.loads(json.dumps(cell.to_json())):
        raise UserError(
            f"{path} is the result of another comparison (other images, settings or threads). "
            "Give another --out folder, or remove this one."
        )
    return result
