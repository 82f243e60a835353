"""`carsam quantize` is killed at the worst moments, and goes on with the same bits."""

import json
import os
import shutil
import signal
import sys
import time

import pytest
from killing import run_until_killed, start

from carsam.calibration.unit_log import UnitLog
from carsam.cli import main
from carsam.formats.checkpoint import read_checkpoint
from carsam.methods.steps.training.polish import Polish
from carsam.methods.steps.training.saved_training import SavedTraining

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

UNITS, POLISHED = "gptq", "carsam-plus"
RECIPES = {UNITS: [], POLISHED: ["--set", "polish.steps=8", "--set", "polish.rate=0.001"]}
"""One that is soon done, for kills before the last unit is, and one that trains after it."""

KEEPS_EVERY_STEP = {
    "carsam.methods.steps.training.saved_training:SECONDS_BETWEEN_SAVES": 0,
    "carsam.methods.steps.training.saved_training:LARGEST_SHARE": 1e9,
}
QUANTIZING = "carsam.calibration.loop:_Run._units_"
PLACES = {
    "inside a unit": {
        "at": "carsam.methods.steps.rounding.gptq:FeedBackErrors._moments",
        "since": QUANTIZING,
        "call": 6,
    },
    "before a unit's file has its name": {"at": "os:replace", "call": 7},
    "after a unit's file has its name": {"at": "os:replace", "call": 7, "after": True},
    "before the run has its name": {"at": "os:rename", "call": 1},
}
UNITS_LEFT = {
    "inside a unit": 13,
    "before a unit's file has its name": 11,
    "after a unit's file has its name": 10,
    "before the run has its name": 0,
}


@pytest.fixture(scope="module")
def setting(tmp_path_factory, randomise_):
    """A folder with a tiny model, photos, and what quantizing it makes, by recipe."""
    import numpy as np
    from PIL import Image
    from transformers import SamConfig, SamModel

    folder = tmp_path_factory.mktemp("killed")
    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
    vision |= {"image_size": 64, "patch_size": 16, "output_channels": 16, "window_size": 2}
    vision |= {"global_attn_indexes": [1], "num_pos_feats": 8}
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 16,
            "num_attention_heads": 2,
            "mlp_dim": 32,
            "iou_head_hidden_dim": 16,
        },
    )
    model = SamModel(config).eval()
    randomise_(model)
    model.save_pretrained(folder / "model")
    (folder / "photos").mkdir()
    for index in range(2):
        noise = np.random.default_rng(index).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "photos" / f"{index}.png")
    for recipe in RECIPES:
        assert main(command(folder, folder / recipe, recipe=recipe)) == 0
    return folder


def command(folder, out, *more, recipe=UNITS) -> list[str]:
    """The arguments that quantize the tiny model."""
    photos = ["--images", folder / "photos", "--count", 2]
    how = ["--recipe", recipe, *RECIPES[recipe], "--quiet"]
    return [str(a) for a in ("quantize", folder / "model", *photos, *how, "--out", out, *more)]


def facts(run) -> dict:
    """What `carsam.json` says, apart from times and the memory of one process."""
    manifest = json.loads((run / "carsam.json").read_text())
    for cost in ("seconds", "peak_mb"):
        del manifest["calibration"][cost]
    return manifest


def assert_undisturbed(setting, run, recipe=UNITS):
    """The run has the bytes of the undisturbed one, and nothing lies beside it."""
    weights = "model.safetensors"
    assert (run / weights).read_bytes() == (setting / recipe / weights).read_bytes()
    assert facts(run) == facts(setting / recipe)
    assert list(run.parent.iterdir()) == [run]


@pytest.fixture
def units(monkeypatch):
    """Numbers of the units that are quantized in this process."""
    numbers, store = [], UnitLog.store

    def counted(self, index, *given):
        numbers.append(index)
        store(self, index, *given)

    monkeypatch.setattr(UnitLog, "store", counted)
    return numbers


@pytest.mark.parametrize(
    ("place", "recipe"), [("inside a unit", POLISHED), *((place, UNITS) for place in PLACES)]
)
def test_a_killed_quantization_goes_on_with_the_same_bits(setting, tmp_path, units, place, recipe):
    out = tmp_path / "run"
    again = command(setting, out, recipe=recipe)
    run_until_killed(PLACES[place], again)
    assert not out.exists()
    assert main(again) == 0
    assert len(units) == UNITS_LEFT[place]
    assert_undisturbed(setting, out, recipe)


def test_a_kill_between_the_renames_of_force_loses_neither_run(setting, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(setting / UNITS, out)
    forced = command(setting, out, "--force")
    run_until_killed({"at": "os:rename", "call": 3}, forced)
    assert not out.exists()
    assert read_checkpoint(out).manifest["recipe"]["name"] == UNITS
    assert main(["info", str(out)]) == 0
    assert main(forced) == 0
    assert_undisturbed(setting, out)


def test_a_second_process_is_refused_and_a_killed_polish_goes_on(
    setting, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    again = command(setting, out, recipe=POLISHED)
    place = {"at": f"{Polish.__module__}:Polish._step_", "since": QUANTIZING, "call": 6}
    place |= {"constants": KEEPS_EVERY_STEP, "waiting": str(tmp_path / "waiting")}
    first = start(place, again)
    try:
        while not (tmp_path / "waiting").exists():
            assert os.waitpid(first, os.WNOHANG) == (0, 0), "it has ended"
            time.sleep(0.05)
        assert main(again) == 2
        assert f"Another process ({first}) is writing {out}" in capsys.readouterr().err
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    (tmp_path / "waiting").unlink()

    done, resume_ = [], SavedTraining.resume_

    def heard(self, item):
        resume_(self, item)
        done.append(self.done)

    monkeypatch.setattr(SavedTraining, "resume_", heard)
    assert main(again) == 0
    assert done == [5]
    assert_undisturbed(setting, out, POLISHED)


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_afterwards(
    setting, tmp_path, capsys, limited_files, units
):
    out = tmp_path / "run"
    with limited_files(90_000):  # enough for units, too little for the run
        assert main(command(setting, out)) == 2
    assert "No space left on the disk" in capsys.readouterr().err
    assert not out.exists()
    units.clear()
    assert main(command(setting, out)) == 0
    assert units == []
    assert_undisturbed(setting, out)
