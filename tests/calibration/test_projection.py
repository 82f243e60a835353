"""The projected time: of every unit, without touching the model."""

import time

import pytest
import torch

from carsam.calibration.projection import Projection, UnitTime, project
from carsam.calibration.quantize import quantize
from carsam.families import FAMILIES
from carsam.methods.registry import make_recipe, make_steps
from carsam.methods.units import plan_units
from carsam.progress import Silent
from carsam.simulation.model import prepare


@pytest.fixture
def projected(tiny_sam):
    """Function (recipe, settings, images) -> the prepared model and its projection."""
    family = FAMILIES["sam"]

    def projected(name: str, settings: tuple[str, ...] = (), images: int = 2):
        model = prepare(family, tiny_sam)
        recipe = make_recipe(name, "w4a4", settings=settings)
        stages = family.stages(model)
        plans = plan_units(stages, family.sites(model), recipe)
        boxes = torch.tensor([[[4.0, 5, 50, 40]]])
        states = [family.start(torch.randn(1, 3, 64, 64), boxes)] * images
        return model, project(model, stages, plans, make_steps(recipe), states)

    return projected


@pytest.mark.parametrize("name", ["carsam", "repq-vit"])
def test_the_model_ends_as_it_was(projected, tiny_sam, name):
    model, _ = projected(name)
    untouched = prepare(FAMILIES["sam"], tiny_sam)
    before, after = untouched.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [type(m) for m in model.modules()] == [type(m) for m in untouched.modules()]


def test_more_steps_and_images_take_longer(projected):
    few = projected("qdrop", ("reconstruct.steps=10",))[1]
    many = projected("qdrop", ("reconstruct.steps=1000",))[1]
    assert many.seconds > 10 * few.seconds
    assert max(unit.step_seconds for unit in few.units) > 0
    assert projected("rtn", images=2000)[1].seconds > 10 * projected("rtn")[1].seconds


def test_the_projection_is_of_the_right_size(tiny_sam, image_folder, projected):
    settings = ("reconstruct.steps=60",)
    quantize(tiny_sam, image_folder, "qdrop", count=1, settings=["reconstruct.steps=1"])  # warm up
    expected = projected("qdrop", settings)[1].seconds
    started = time.perf_counter()
    quantize(tiny_sam, image_folder, "qdrop", count=2, settings=settings)
    assert expected / 8 < time.perf_counter() - started < 8 * expected


def test_it_is_said_before_the_first_unit(tiny_sam, image_folder):
    heard = []

    class Ear(Silent):
        def start(self, description: str, total: int) -> None:
            heard.append(description)

        def info(self, message: str) -> None:
            heard.append(message)

    quantize(tiny_sam, image_folder, "rtn", count=1, projects=True, progress=Ear())
    assert [line.split(":")[0] for line in heard[-3:]] == ["Projected", "Memory", "Quantizing"]
    settings = ["polish.steps=1"]
    quantize(
        tiny_sam, image_folder, "carsam-plus", settings=settings, projects=True, progress=Ear()
    )
    said = [line.split(":")[0] for line in heard[-5:]]
    assert said == ["Projected", "Not in it", "Memory", "Quantizing", "Polishing"]
    assert "polish" in heard[-4]


def test_times_are_written_as_people_say_them():
    hours = Projection((UnitTime("neck", 7200.0, 0.0), UnitTime("block", 600.0, 0.1)), 3.0)
    assert "2.2 h for 2 units" in str(hours)
    assert "2.0 h of it for neck" in str(hours)
