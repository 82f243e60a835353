"""Every recipe that trains has the same budget, unless its paper's own is asked for."""

from dataclasses import fields

import pytest

from carsam.families import FAMILIES
from carsam.families.base import ENCODER_ROLES
from carsam.methods.budgets import with_budget
from carsam.methods.recipe import Recipe, Step
from carsam.methods.registry import (
    LEGACY_RECIPES,
    RECIPES,
    make_recipe,
    make_steps,
    make_whole_model_steps,
)
from carsam.methods.steps.training.reconstruct import Reconstruct

METHOD = {"trains_weights", "trains_scales", "keep", "keep_inputs", "interaction"}
"""What a method says of its training; everything else is the budget."""


def training_of(name, budget="fast"):
    steps = make_steps(make_recipe(name, "w4a4", budget=budget))
    return [step for step in steps if isinstance(step, Reconstruct)]


TRAINED = [name for name in {**RECIPES, **LEGACY_RECIPES} if training_of(name)]


@pytest.mark.parametrize("name", TRAINED)
def test_no_recipe_has_a_budget_of_its_own(name):
    for step in training_of(name):
        for entry in fields(Reconstruct):
            if entry.name not in METHOD:
                assert getattr(step, entry.name) == entry.default, entry.name


def test_dropping_is_the_same_for_all_but_brecqs_two_passes():
    keeps = {name: {(s.keep, s.keep_inputs) for s in training_of(name)} for name in TRAINED}
    assert keeps.pop("brecq") == {(0.0, 1.0), (1.0, 0.0)}
    assert set().union(*keeps.values()) == {(0.5, 0.5)}


@pytest.mark.parametrize("budget", ["fast", "paper"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_kind_of_unit_takes_the_same_steps(tiny_sam, name, budget):
    stages = FAMILIES["sam"].stages(tiny_sam)
    assert {stage.role for stage in stages} > set(ENCODER_ROLES)
    for step in training_of(name, budget):
        assert {step.steps_on((stage,)) for stage in stages} == {step.steps}


def test_the_papers_budget_has_the_papers_steps():
    (reconstruct,) = training_of("qdrop", "paper")
    assert (reconstruct.steps, reconstruct.rounding_rate) == (20000, 1e-3)
    assert [step.steps for step in training_of("brecq", "paper")] == [20000, 5000]
    (_, (polish,)) = make_whole_model_steps(make_recipe("carsam-plus", "w4a4", budget="paper"))
    assert polish.steps == 12000


def test_faults_do_not_change_the_budget():
    for name in ("qdrop", "ptq4sam"):
        ours, faulty = (training_of(each, "paper") for each in (name, f"{name}-legacy"))
        assert [(s.steps, s.scale_rate) for s in ours] == [(s.steps, s.scale_rate) for s in faulty]


def test_parts_of_a_method_stay_under_the_papers_budget():
    (reconstruct,) = training_of("saqsam", "paper")
    assert reconstruct.interaction == 1.0


def test_a_recipe_that_no_paper_knows_trains_as_qdrop_does():
    recipe = with_budget(Recipe("mine", (Step("reconstruct", {"keep": 1.0}),)), "paper")
    (step,) = make_steps(recipe)
    assert (step.steps, step.keep) == (20000, 1.0)


def test_a_setting_overrides_the_budget():
    settings = ("reconstruct.steps=7",)
    (_, reconstruct) = make_steps(make_recipe("qdrop", "w4a4", settings=settings, budget="paper"))
    assert reconstruct.steps == 7


def test_an_unknown_budget_is_refused():
    with pytest.raises(ValueError, match="Budget huge is not known; expected one of fast, paper"):
        make_recipe("rtn", "w4a4", budget="huge")
