"""Room for activations is looked for before anything is quantized."""

import pytest
import torch

from carsam.calibration import needs
from carsam.calibration.needs import activations_by_unit, available_memory, check_room
from carsam.calibration.quantize import quantize
from carsam.families import FAMILIES
from carsam.methods.registry import make_recipe
from carsam.methods.units import plan_units
from carsam.simulation.model import prepare

CPU = torch.device("cpu")


@pytest.fixture
def by_unit(tiny_sam):
    """Function (boxes of each image) -> bytes by unit."""

    def by_unit(*boxes: int, two_paths: bool = False) -> dict[str, int]:
        family = FAMILIES["sam"]
        model = prepare(family, tiny_sam)
        recipe = make_recipe("rtn", "w4a4")
        plans = plan_units(family.stages(model), family.sites(model), recipe)
        box = torch.tensor([[[4.0, 5, 50, 40]]])
        states = [family.start(torch.zeros(1, 3, 64, 64), box.expand(1, n, 4)) for n in boxes]
        return activations_by_unit(model, plans, states, two_paths)

    return by_unit


def test_an_encoder_block_keeps_its_tokens_before_and_after(by_unit):
    hidden, box = 8 * 8 * 32 * 4, 4 * 4
    unit = "vision_encoder.layers.1.mlp"
    assert by_unit(1)[unit] == 2 * (hidden + box)
    assert by_unit(1, 1, two_paths=True)[unit] == 2 * 2 * 2 * (hidden + box)


def test_image_tokens_count_for_every_box_behind_the_first_block(by_unit):
    unit = "mask_decoder.transformer.layers.1.mlp"
    image = 8 * 8 * 32 * 4
    assert by_unit(3, 1)[unit] - by_unit(2, 1)[unit] >= 2 * image
    assert by_unit(3)[unit] < 2 * 5 * image


def test_too_little_disk_is_said(tmp_path):
    message = r"10000000\.00 GB of activations during the neck.*another disk"
    with pytest.raises(ValueError, match=message):
        check_room({"the neck": 10**16, "a block": 5}, 0.001, tmp_path, CPU)


def test_too_little_memory_is_said(tmp_path):
    message = r"10000000\.00 GB would stay in memory, where .* are free.*on disk"
    with pytest.raises(ValueError, match=message):
        check_room({"the neck": 10**16}, None, tmp_path, CPU)


def test_what_fits_is_not_refused(tmp_path):
    check_room({"the neck": 1000}, None, tmp_path, CPU)
    check_room({"the neck": 1000}, 0.0, tmp_path, CPU)


def test_a_run_without_room_stops_before_its_first_unit(tiny_sam, image_folder, monkeypatch):
    monkeypatch.setattr(needs, "available_memory", lambda device: 1000)
    units = []
    monkeypatch.setattr("carsam.calibration.loop.run_observed", lambda *_: units.append(1))
    with pytest.raises(ValueError, match="would stay in memory"):
        quantize(tiny_sam, image_folder, "rtn", count=1)
    assert not units


def test_available_memory_is_a_sensible_number():
    there = available_memory(CPU)
    assert there is None or 10**7 < there < 10**15
