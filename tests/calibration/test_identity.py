"""A run is only resumed where everything that decides its result is as it was."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from carsam.calibration import identity
from carsam.calibration.quantize import calibrate
from carsam.calibration.record import Calibration
from carsam.methods.recipe import Step
from carsam.methods.registry import make_recipe
from carsam.progress import Silent

UNITS = 18
FAST = ("round-to-nearest.weights=minmax", "round-to-nearest.activations=minmax")
RECIPE = make_recipe("rtn", "w4a4", settings=FAST)


@pytest.fixture
def coco(image_folder):
    """Function (left edge) -> a json with one box in every image."""

    def coco(left: int) -> str:
        path = image_folder / f"boxes{left}.json"
        names = sorted(path.name for path in image_folder.glob("*.jpg"))
        box = {"category_id": 1, "iscrowd": 0, "area": 400.0, "bbox": [left, 10, 20, 20]}
        outline = [left, 10, left + 20, 10, left + 20, 30, left, 30]
        document = {
            "images": [
                {"id": index, "file_name": name, "width": 120, "height": 90}
                for index, name in enumerate(names, 1)
            ],
            "annotations": [
                {"id": index, "image_id": index, "segmentation": [outline], **box}
                for index in range(1, len(names) + 1)
            ],
            "categories": [{"id": 1, "name": "thing"}],
        }
        path.write_text(json.dumps(document))
        return str(path)

    return coco


class Ear(Silent):
    """Hears why nothing is taken over."""

    def __init__(self):
        self.heard = []

    def info(self, message):
        if message.startswith("Starting anew"):
            self.heard.append(message)


@pytest.fixture
def begun(tiny_sam, image_folder, tmp_path, monkeypatch, coco):
    """Function (changes) -> names of the units that a second run did, and what it said.

    The first run finishes all units.
    """
    from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest

    done, run_ = [], RoundToNearest.run_

    def counted(self, unit):
        done.append(unit.plan.name)
        run_(self, unit)

    monkeypatch.setattr(RoundToNearest, "run_", counted)
    record = Calibration(image_folder, coco(10), count=2, prompts_per_image=4)
    calibrate(tiny_sam, RECIPE, record, tmp_path / "run")
    assert len(done) == UNITS

    def begun(recipe=RECIPE, **changes):
        done.clear()
        ear = Ear()
        calibrate(tiny_sam, recipe, replace(record, **changes), tmp_path / "run", progress=ear)
        return list(done), ear.heard

    return begun


def assert_anew(outcome, *fields):
    """All units were done anew, and the fields are named as the reason."""
    done, heard = outcome
    assert len(done) == UNITS
    (reason,) = (message for message in heard if message.startswith("Starting anew"))
    assert reason.endswith(f"another value of {', '.join(sorted(fields))}.")


def test_the_same_run_is_resumed(begun, monkeypatch):
    assert begun() == ([], [])
    assert begun(memory=0) == ([], [])  # which changes no bit


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        (make_recipe("rtn", "w3a4", settings=FAST), "bits"),
        (make_recipe("rtn", "w4a8", settings=FAST), "bits"),
        (make_recipe("rtn", "w4a4", ("decoder.mlp=w8a8",), FAST), "rules"),
        (make_recipe("rtn", "w4a4", settings=FAST[1:]), "steps"),
        (replace(RECIPE, name="other"), "name"),
        (replace(RECIPE, opening=(Step("centre-inputs"),)), "steps"),
        (replace(RECIPE, closing=(Step("polish", {"steps": 1}),)), "steps"),
    ],
)
def test_another_recipe_is_not_resumed(begun, recipe, field):
    assert_anew(begun(recipe), field)


def test_other_units_are_not_resumed(begun):
    done, (heard,) = begun(replace(RECIPE, units=("two-way-block",)))
    assert len(done) == 12
    assert heard.endswith("another value of units.")


def test_another_seed_is_not_resumed(begun):
    done, (heard,) = begun(seed=1)
    assert len(done) == UNITS
    assert "seed" in heard


def test_another_number_of_images_is_not_resumed(begun):
    assert_anew(begun(count=3), "images", "prompts")


def test_other_images_are_not_resumed(begun, image_folder):
    for path in image_folder.glob("*.jpg"):
        flipped = np.asarray(Image.open(path))[::-1]
        Image.fromarray(flipped).save(path)
    assert_anew(begun(), "images")


def test_images_that_are_avoided_are_not_resumed_with(begun, image_folder):
    names = [path.name for path in image_folder.glob("*.jpg")]
    done, _ = begun(avoid=tuple(names[:3]), count=1)
    assert len(done) == UNITS


def test_other_boxes_are_not_resumed(begun, coco):
    assert_anew(begun(coco=coco(30)), "prompts")


def test_boxes_that_the_model_finds_are_not_those_of_a_json(begun):
    assert_anew(begun(coco=None), "prompts")


def test_another_number_of_boxes_is_not_resumed(begun):
    assert_anew(begun(prompts_per_image=5), "prompts_per_image", "prompts")


def test_other_weights_are_not_resumed(begun, tiny_sam):
    with torch.no_grad():
        tiny_sam.mask_decoder.iou_token.weight += 0.5
    assert_anew(begun(), "model")


def test_another_config_is_not_resumed(begun, tiny_sam):
    tiny_sam.config.vision_config.layer_norm_eps *= 2
    assert_anew(begun(), "model")


def test_other_versions_are_not_resumed(begun, monkeypatch):
    monkeypatch.setattr(identity, "versions", lambda: {"torch": "1.0"})
    assert_anew(begun(), "versions")


def test_another_number_of_threads_is_not_resumed(begun):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert_anew(begun(), "threads")
    finally:
        torch.set_num_threads(before)


def test_another_processor_is_not_resumed(begun, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other")
    assert_anew(begun(), "processor")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_device_is_not_resumed(begun):
    assert_anew(begun(device="cuda"), "device")
