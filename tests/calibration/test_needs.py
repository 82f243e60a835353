"""Room for activations is looked for before anything is quantized."""

from collections import namedtuple

import pytest
import torch

from carsam.calibration import needs
from carsam.calibration.caches import StateCache
from carsam.calibration.course import plan_course
from carsam.calibration.needs import USUAL, activations, available_memory, room
from carsam.calibration.quantize import quantize
from carsam.errors import UserError
from carsam.families import FAMILIES
from carsam.families.base import split_after_encoder
from carsam.methods.registry import make_recipe
from carsam.methods.steps.training.mask_loss import run_stages
from carsam.simulation.model import prepare

CPU = torch.device("cpu")
Disk = namedtuple("Disk", ("total", "used", "free"))


FAMILY = FAMILIES["sam"]


@pytest.fixture
def course_of(tiny_sam):
    """Function (recipe) -> what it does to the tiny SAM."""

    def course_of(recipe: str):
        return plan_course(FAMILY, prepare(FAMILY, tiny_sam), make_recipe(recipe, "w4a4"))

    return course_of


def states_with(*boxes: int) -> list:
    """States of images with these numbers of boxes."""
    box = torch.tensor([[[4.0, 5, 50, 40]]])
    return [FAMILY.start(torch.zeros(1, 3, 64, 64), box.expand(1, n, 4).clone()) for n in boxes]


def bytes_of(states) -> int:
    """What states really take; tensors that they share take it once."""
    tensors = {id(tensor): tensor.nbytes for state in states for tensor in state.values()}
    return sum(tensors.values())


@pytest.mark.parametrize("boxes", [(1, 1), (3, 1), (8, 5, 2)])
def test_what_is_foretold_of_a_unit_is_what_it_keeps(course_of, boxes):
    """Eight boxes are as many as rows of tokens: shapes alone do not tell the two apart."""
    course, states = course_of("rtn"), states_with(*boxes)
    needs = activations(course, states)
    for plan in course.plans:
        with torch.no_grad():
            following = [plan.run(course.model, state) for state in states]
        assert needs[plan.name] == bytes_of([*states, *following]), plan.name
        states = following


@pytest.mark.filterwarnings("ignore:.*reconstruction raised the loss", "ignore:Polish raised")
@pytest.mark.parametrize(
    ("model", "name"),
    [
        *(("tiny_sam", name) for name in ("rtn", "gptq", "carsam", "carsam-plus")),
        *(("tiny_sam2_video", name) for name in ("gptq", "carsam-plus")),
    ],
)
def test_a_run_keeps_no_more_than_is_foretold_and_hardly_less(
    request, image_folder, monkeypatch, model, name
):
    most = [0]
    kept = StateCache._kept

    def watched(cache, tensor):
        found = kept(cache, tensor)
        most.append(cache.used())
        return found

    monkeypatch.setattr(StateCache, "_kept", watched)
    foretold = []
    monkeypatch.setattr(
        "carsam.calibration.loop.room", lambda needs, *_: foretold.append(needs) or 10**9
    )
    steps = {
        "carsam": ["reconstruct.steps=1", "compensate.memory=0"],
        "carsam-plus": ["polish.steps=1"],
    }
    source = request.getfixturevalue(model)
    quantize(source, image_folder, name, count=3, settings=steps.get(name, []))
    needed = max(foretold[0].values())
    assert 0.9 * needed < max(most) <= needed


def test_polish_keeps_the_float_and_the_quantized_embedding_of_every_view(course_of):
    course, states, views = course_of("carsam-plus"), states_with(2, 3), states_with(2, 3)
    needs = activations(course, states, views)
    encoder, _ = split_after_encoder(course.stages)
    with torch.no_grad():
        embedded = [run_stages(course.model, encoder, state) for state in (*states, *views)]
    embeddings = bytes_of(embedded)
    assert needs["polish"] == 2 * embeddings
    plain = activations(course_of("gptq"), states)
    assert {name: needs[name] - size for name, size in plain.items()} == dict.fromkeys(
        plain, embeddings
    )


def test_too_little_disk_is_said(tmp_path):
    message = r"10000000\.00 GB of activations during the neck.*another disk"
    with pytest.raises(ValueError, match=message):
        room({"the neck": 10**16, "a block": 5}, 0.001, tmp_path, CPU)


def test_too_little_memory_is_said(tmp_path):
    message = r"10000000\.00 GB would stay in memory, where .* are free.*on disk"
    with pytest.raises(ValueError, match=message):
        room({"the neck": 10**16}, 1e8, tmp_path, CPU)


def test_what_fits_is_not_refused(tmp_path):
    assert room({"the neck": 1000}, None, tmp_path, CPU) == 1000
    assert room({"the neck": 1000}, 0.0, tmp_path, CPU) == 0
    assert room({"the neck": 1000}, 5e-7, tmp_path, CPU) == 500


def test_processes_side_by_side_share_memory_and_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(needs, "available_memory", lambda device: 2 * 10**9)
    disk = Disk(total=0, used=0, free=2 * 10**9)
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda folder: disk)
    assert room({"a block": 10**9}, 1.0, tmp_path, CPU) == 10**9
    with pytest.raises(UserError, match=r"where 1\.00 GB are free for each of 2 processes"):
        room({"a block": 10**9}, 1.0, tmp_path, CPU, sharers=2)
    with pytest.raises(UserError, match=r"has 1\.00 GB free for each of 2 processes"):
        room({"a block": 10**9}, 0.0, tmp_path, CPU, sharers=2)


def test_usually_no_more_than_a_fixed_part_stays_in_memory_if_the_disk_has_room(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(needs, "available_memory", lambda device: None)
    disk = Disk(total=0, used=0, free=10**12)
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda folder: disk)
    assert room({"a block": 5 * USUAL}, None, tmp_path, CPU) == USUAL
    disk = Disk(total=0, used=0, free=USUAL)
    assert room({"a block": 5 * USUAL}, None, tmp_path, CPU) == round(4.1 * USUAL)


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
