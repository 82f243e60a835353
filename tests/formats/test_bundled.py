"""The bundled 4-bit sam-mini: found by name, run without torch, strict, and near its float self."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from without_torch import run_without_torch

from carsam.cli import main
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.evaluation.strict import assert_strict
from carsam.formats.bundled import FOLDER, run_folder
from carsam.formats.checkpoint import read_checkpoint
from carsam.formats.inventory import bytes_on_disk
from carsam.images.scenes import scene, write_scenes
from carsam.predict.predictor import SamPredictor
from carsam.simulation.model import load_simulated

NAME = "sam-mini-w4a4"
RUN_CLI = "import sys\nfrom carsam.cli import main\nsys.exit(main(sys.argv[1:]))"
SEEDS = (500_001, 500_002, 500_003)  # no scene of the training has such a seed


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty present folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_name_stands_for_the_packages_folder(here) -> None:
    assert run_folder(NAME) == FOLDER / NAME
    assert bytes_on_disk(NAME) < 4.3e6


def test_a_run_of_that_name_in_the_present_folder_goes_first(here) -> None:
    shutil.copytree(FOLDER / NAME, here / NAME)
    assert run_folder(NAME).resolve() == here / NAME


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_anything_else_of_that_name_is_refused(here, make, capsys) -> None:
    make(here / NAME)
    with pytest.raises(UserError, match="name of a bundled model, but here it is also that of"):
        load(NAME)
    assert main(["info", NAME]) == 2
    assert "Rename" in capsys.readouterr().err


def test_a_path_is_never_taken_for_the_name(here) -> None:
    with pytest.raises(UserError, match="There is no file or folder"):
        read_checkpoint(here / NAME)


def test_numbers_are_not_recorded_in_the_package(here, capsys) -> None:
    coco = write_scenes(here / "scenes", 1, size=64)
    where = ["--coco", str(coco), "--images", str(coco.parent / "images"), "--json", "result.json"]
    assert main(["evaluate", NAME, *where, "--record"]) == 2
    assert "--record has no place" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", NAME],
        ["embed", NAME, "scenes/images", "--cache", "embeddings", "--quiet"],
        ["predict", NAME, "{photo}", "--box", "1,1,40,40", "--out", "mask.png", "--quiet"],
    ],
)
def test_it_needs_no_torch(here, arguments) -> None:
    write_scenes(here / "scenes", 1, size=64)
    photo = next((here / "scenes" / "images").iterdir())
    found = run_without_torch(RUN_CLI, *(part.format(photo=photo) for part in arguments))
    assert found.returncode == 0, found.stderr


@pytest.mark.slow
def test_it_passes_the_strict_check() -> None:
    assert_strict(load_simulated(NAME), [scene(SEEDS[0], 256).image])


def test_its_masks_are_near_those_of_float() -> None:
    float_predictor, predictor = (SamPredictor(load(name)) for name in ("sam-mini", NAME))
    overlaps: list[float] = []
    for drawn in map(scene, SEEDS):
        boxes = np.array([_box(mask) for mask in drawn.masks if mask.sum() > 500])
        expected, found = (_masks(one, drawn.image, boxes) for one in (float_predictor, predictor))
        common, either = (expected & found).sum((1, 2)), (expected | found).sum((1, 2))
        overlaps.extend(common / either)
    assert np.mean(overlaps) > 0.85  # filled boxes have 0.65


def test_its_description_names_no_path_of_a_machine() -> None:
    text = json.dumps(read_checkpoint(NAME).manifest)
    assert not re.search(r'"(/|[A-Z]:\\|~)', text)


def _box(mask: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def _masks(predictor: SamPredictor, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the masks (P, H, W) of boxes (P, 4)."""
    predictor.set_image(image)
    return predictor.predict_batch(boxes=boxes)[0][:, 0]
