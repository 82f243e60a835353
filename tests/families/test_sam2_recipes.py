"""Every recipe on a tiny SAM 2: it is quantized as the recipe says, and comes back from disk."""

import numpy as np
import pytest

import carsam
from carsam.engines.torch_engine import TorchEngine
from carsam.evaluation.strict import assert_strict
from carsam.methods.registry import RECIPES

FEW_STEPS = ("reconstruct", "reconstruct-unfinished", "polish")


def few_steps(name):
    recipe = carsam.make_recipe(name, "w4a4")
    steps = [step.name for step in (*recipe.opening, *recipe.steps, *recipe.closing)]
    return [f"{step}.steps=2" for step in steps if step in FEW_STEPS]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.filterwarnings("ignore:.*(reconstruction|Polish) raised")
def test_it_is_quantized_strictly_and_comes_back(name, tiny_sam2, image_folder, photo, tmp_path):
    model = carsam.quantize(
        tiny_sam2, image_folder, name, settings=few_steps(name), count=1, boxes_per_image=2
    )
    assert_strict(model, [photo])
    model.save(tmp_path / "run")
    predictor = carsam.SamPredictor(tmp_path / "run")  # native does not run it yet
    assert predictor.engine.mode == "simulated"
    predictor.set_image(photo)
    expected = carsam.SamPredictor(TorchEngine(model.family, model.module, model.mode))
    expected.set_image(photo)
    box = [10, 10, 80, 70]
    for found, exact in zip(predictor.predict(box=box), expected.predict(box=box), strict=True):
        np.testing.assert_array_equal(found, exact)


def test_every_kind_can_be_quantized(tiny_sam2, image_folder, photo):
    model = carsam.quantize(
        tiny_sam2, image_folder, "rtn", rules=["*=w4a4"], count=1, boxes_per_image=2
    )
    assert_strict(model, [photo])
