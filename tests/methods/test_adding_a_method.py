"""The examples of docs/adding_a_method.md work as they are printed."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from carsam.calibration.quantize import quantize
from carsam.evaluation.strict import assert_strict
from carsam.methods import registry
from carsam.methods.recipe import Step

PAGE = Path(__file__).parents[2] / "docs" / "adding_a_method.md"


@pytest.fixture(scope="module")
def examples():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    found = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), found)
    return found


@pytest.mark.filterwarnings("ignore:.*reconstruction raised the loss")
def test_the_recipe_and_the_step_of_the_page_work(
    examples, monkeypatch, tiny_sam, image_folder, photo
):
    monkeypatch.setitem(registry.STEPS, "shrink-ranges", examples["ShrinkRanges"])
    recipe = examples["RECIPE"].with_parameters(["reconstruct.steps=2"])
    grids, *rest = recipe.steps
    recipe = replace(recipe, steps=(grids, Step("shrink-ranges", {"factor": 0.8}), *rest))
    assert_strict(quantize(tiny_sam, image_folder, recipe, count=1), [photo])
