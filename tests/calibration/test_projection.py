"""The projected time: of every unit and every step, without touching the model."""

import time
from dataclasses import dataclass, replace

import pytest
import torch
from tiny_clips import clip_state

from carsam.calibration.course import plan_course
from carsam.calibration.projection import PartTime, Projection, project
from carsam.calibration.quantize import quantize
from carsam.families import FAMILIES
from carsam.methods import registry
from carsam.methods.base import UnitStep, WholeModelStep
from carsam.methods.cost import CostedByStep
from carsam.methods.recipe import Step
from carsam.methods.registry import make_recipe
from carsam.methods.steps.training.polish import Polish
from carsam.progress import Silent
from carsam.simulation import slots
from carsam.simulation.model import prepare

FAMILY = FAMILIES["sam"]


@pytest.fixture
def projected(tiny_sam):
    """Function (recipe, settings, images) -> the prepared model and its projection."""

    def projected(recipe, settings: tuple[str, ...] = (), images: int = 2, **more):
        model = prepare(FAMILY, tiny_sam)
        if isinstance(recipe, str):
            recipe = make_recipe(recipe, "w4a4", settings=settings)
        boxes = torch.tensor([[[4.0, 5, 50, 40]]])
        states = [FAMILY.start(torch.randn(1, 3, 64, 64), boxes)] * images
        return model, project(plan_course(FAMILY, model, recipe), states, **more)

    return projected


def rounded_and_polished(steps: int):
    """Recipe `carsam-plus` with units that are rounded to nearest, which is soon tried."""
    recipe = make_recipe("carsam-plus", "w4a4", settings=(f"polish.steps={steps}",))
    return replace(recipe, steps=make_recipe("rtn", "w4a4").steps)


@dataclass(frozen=True)
class Sleep(UnitStep):
    """Takes a tenth of a second for every image."""

    def run_(self, unit):
        time.sleep(0.1 * len(unit.inputs))


@dataclass(frozen=True)
class SleepBySteps(CostedByStep, UnitStep):
    """Takes a hundredth of a second for every step of training."""

    steps: int = 1000

    def run_(self, unit):
        time.sleep(0.01 * self.steps)


@dataclass(frozen=True)
class SleepAtTheEnd(CostedByStep, WholeModelStep):
    """Takes a twentieth of a second for every step of training, after the last unit."""

    steps: int = 1000

    def run_(self, whole):
        time.sleep(0.05 * self.steps)


@pytest.mark.parametrize(
    ("step", "images", "seconds"), [(Sleep, 100, 10.0), (SleepBySteps, 3, 10.0)]
)
def test_a_new_step_is_projected_without_being_known(projected, monkeypatch, step, images, seconds):
    monkeypatch.setitem(registry.STEPS, "sleep", step)
    recipe = make_recipe("rtn", "w4a4")
    plain = projected(recipe, images=images)[1].seconds
    recipe = replace(recipe, steps=(*recipe.steps, Step("sleep")))
    longer = projected(recipe, images=images)[1]
    trained = [unit for unit in longer.units if "patch_embed" not in unit.name]
    assert longer.seconds - plain == pytest.approx(seconds * len(trained), rel=0.5)


def test_a_new_closing_step_is_projected_without_being_known(projected, monkeypatch):
    monkeypatch.setitem(registry.CLOSING_STEPS, "sleep", SleepAtTheEnd)
    recipe = replace(make_recipe("rtn", "w4a4"), closing=(Step("sleep"),))
    (time_of_step,) = projected(recipe)[1].whole_steps
    assert time_of_step.name == "sleep"
    assert time_of_step.seconds == pytest.approx(50.0, rel=0.5)
    assert time_of_step.step_seconds == pytest.approx(0.05, rel=0.5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("carsam", ()),
        ("repq-vit", ()),
        ("carsam-plus", ()),
        ("carsam-plus", ("polish.encoder=true",)),
    ],
)
def test_the_model_ends_as_it_was(projected, tiny_sam, name, settings):
    model, _ = projected(name, settings)
    untouched = prepare(FAMILY, tiny_sam)
    before, after = untouched.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [type(m) for m in model.modules()] == [type(m) for m in untouched.modules()]


def test_units_of_a_memory_are_projected_on_clips(tiny_sam2_video):
    family = FAMILIES["sam2_video"]
    model, untouched = (prepare(family, tiny_sam2_video) for _ in range(2))
    boxes = torch.tensor([[[4.0, 5, 50, 40]]])
    states = [family.start(torch.randn(1, 3, 128, 128), boxes)]
    course = plan_course(family, model, rounded_and_polished(100))
    found = {
        clips: project(course, states, 1, clips=[clip_state(family)] * clips) for clips in (1, 400)
    }
    parts = {clips: {p.name: p.seconds for p in each.units} for clips, each in found.items()}
    across = "memory_attention.layers.1.cross_attn_image"
    assert parts[400][across] > 5 * parts[1][across] > 0
    block = "vision_encoder.backbone.blocks.0.attn"
    assert parts[400][block] > parts[1][block]  # clips run through it
    before, after = untouched.state_dict(), model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_more_steps_and_images_take_longer(projected):
    few = projected("qdrop", ("reconstruct.steps=10",))[1]
    many = projected("qdrop", ("reconstruct.steps=1000",))[1]
    assert many.seconds > 10 * few.seconds
    assert max(unit.step_seconds for unit in few.units) > 0
    assert projected("rtn", images=2000)[1].seconds > 10 * projected("rtn")[1].seconds


def test_polish_is_projected_by_its_steps(projected):
    few, many = (projected(rounded_and_polished(steps), views=2)[1] for steps in (100, 10000))
    names = [part.name for part in few.whole_steps]
    assert names == ["the float encoder", "centre-inputs", "polish"]
    assert few.whole_steps[-1].step_seconds > 0
    assert many.whole_steps[-1].seconds > 20 * few.whole_steps[-1].seconds
    assert many.seconds > many.whole_steps[-1].seconds


def test_polish_is_tried_on_a_quantized_decoder(projected, monkeypatch):
    tried = []

    def run_(self, whole):
        sites = [site for site, _ in whole.sites if site.kind.startswith("decoder.")]
        layers = [layer for site in sites if (layer := slots.weight_layer(whole.model, site))]
        tried.append(bool(layers) and all(layer.weight_grid is not None for layer in layers))

    monkeypatch.setattr(Polish, "run_", run_)
    projected("carsam-plus")
    assert tried == [True, True, True]


def test_what_is_done_costs_nothing_any_more(projected):
    whole = projected("rtn")[1]
    done = [True] * (len(whole.units) - 1) + [False]
    left = projected("rtn", units_done=done)[1]
    assert [unit.name for unit in left.units] == [whole.units[-1].name]


def test_of_a_polish_that_was_stopped_only_the_rest_is_projected(projected):
    units_done = [True] * len(projected("rtn")[1].units)
    done = {"units_done": units_done, "steps_done": [9900]}
    left = projected(rounded_and_polished(10000), **done)[1]
    assert left.units == ()
    polish = left.whole_steps[-1]
    assert 0 < polish.seconds < 1000 * polish.step_seconds


def test_it_is_said_before_the_first_unit(tiny_sam, image_folder):
    heard = []

    class Ear(Silent):
        def start(self, description: str, total: int) -> None:
            heard.append(description)

        def info(self, message: str) -> None:
            heard.append(message)

    quantize(tiny_sam, image_folder, "rtn", count=1, projects=True, progress=Ear())
    said = [line.split(":")[0] for line in heard[-4:]]
    assert said == ["Projected", "Memory", "Quantizing", "Scores of masks"]
    arguments = {"count": 1, "projects": True, "progress": Ear()}
    quantize(tiny_sam, image_folder, rounded_and_polished(1), **arguments)
    said = [line.split(":")[0] for line in heard[-5:]]
    assert said == ["Projected", "Memory", "Quantizing", "Polishing", "Scores of masks"]
    assert "for polish. Probed in" in heard[-5]


def test_times_are_written_as_people_say_them():
    units = (PartTime("neck", 7200.0, 0.0), PartTime("block", 600.0, 0.1))
    text = str(Projection(units, (PartTime("polish", 720.0, 0.1),), 3.0))
    assert text == (
        "Projected: 2.4 h at the machine's present load: 2.2 h for 2 units (2.0 h of it for neck), "
        "12 min for polish. Probed in 3 s."
    )
