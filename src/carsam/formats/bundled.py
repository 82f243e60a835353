"""Models that come with the package, found by name; no torch."""

import os
from pathlib import Path

from carsam.errors import UserError
from carsam.formats.folders import standing
from carsam.formats.manifest import MANIFEST_FILE

BUNDLED_MODEL = "sam-mini"
CONFIG_FILE = "config.json"
BUNDLED_RUNS = ("sam-mini-w4a4",)
FOLDER = Path(__file__).parents[1] / "models"


def bundled_models() -> tuple[str, ...]:
    """Return the names of the float models that come with the package."""
    folders = sorted(path for path in FOLDER.iterdir() if (path / CONFIG_FILE).is_file())
    return tuple(path.name for path in folders)


def run_folder(source: str | Path) -> Path:
    """Return the folder that the path of a run, or the name of a bundled one, stands for.

    A run of that name in the present folder goes before the bundled one.

    Raises:
        UserError: something else of that name is in the present folder, so that nobody could
            tell which of them is meant.
    """
    path = standing(source)
    if str(source) not in BUNDLED_RUNS or (path / MANIFEST_FILE).exists():
        return path
    if path.exists():
        raise UserError(
            f"{source} is the name of a bundled model, but here it is also that of "
            f"{'a folder without ' + MANIFEST_FILE if path.is_dir() else 'a file'}. "
            "Rename that, or run the command in another folder."
        )
    return FOLDER / path


def is_run(source: str | Path) -> bool:
    """Tell whether `source` is the path of a run, or the name of a bundled one."""
    return os.path.isfile(run_folder(source) / MANIFEST_FILE)
