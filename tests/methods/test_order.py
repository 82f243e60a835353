"""Recipes that contradict themselves are refused with a sentence, before anything runs."""

import pytest

from carsam.calibration.quantize import quantize
from carsam.errors import UserError
from carsam.methods.recipe import Recipe, Step
from carsam.methods.registry import LEGACY_RECIPES, RECIPES, check_steps, make_recipe

WITH_PARAMETERS = {
    "grids": Step("round-to-nearest", {"rounds_weights": False}),
    "asymmetric": Step("compensate", {"asymmetric": True}),
    "scales": Step("reconstruct", {"trains_weights": False}),
    "rounding": Step("reconstruct", {"trains_scales": False}),
}
"""Words that stand for a step with parameters; other words are names of steps."""


def recipe(words, opening=(), closing=()):
    steps = tuple(WITH_PARAMETERS.get(word, Step(word)) for word in words.split())
    return Recipe("mine", steps, opening=opening, closing=closing)


@pytest.mark.parametrize(
    "words",
    [
        "round-to-nearest",
        "round-to-nearest row-maximum-softmax",
        "grids rounding scales",
        "grids feed-back-errors scales",
        "bimodal-integration compensate grids adaptive-granularity reconstruct",
        "grids reduce-condition grids logarithmic-softmax hybrid-log-uniform reconstruct",
        "grids reduce-condition compensate grids reconstruct",
        "compensate grids channel-grouping reconstruct",
        "asymmetric grids hybrid-log-uniform reconstruct",
        "balance-attention compensate centre-layers round-to-nearest",
    ],
)
def test_recipes_that_make_sense_are_taken(words):
    check_steps(recipe(words))


@pytest.mark.parametrize("named", [*RECIPES.values(), *LEGACY_RECIPES.values()])
def test_named_recipes_make_sense(named):
    check_steps(named)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "adaptive-granularity compensate round-to-nearest",
            "compensate cannot come after adaptive-granularity, which has set the probabilities'",
        ),
        (
            "round-to-nearest centre-layers",
            "centre-layers cannot come after round-to-nearest, which has",
        ),
        (
            "centre-layers balance-attention round-to-nearest",
            "balance-attention cannot come after centre-layers, which has taken constants out of",
        ),
        (
            "adaptive-granularity round-to-nearest",
            "round-to-nearest cannot come after adaptive-granularity",
        ),
        (
            "round-to-nearest row-maximum-softmax twin-uniform",
            "twin-uniform cannot come after row-maximum-softmax, which has set the probabilities'",
        ),
        (
            "grids reconstruct compensate",
            "compensate cannot come after round-to-nearest, which has set the grids",
        ),
        (
            "grids feed-back-errors reconstruct",
            "reconstruct cannot come after feed-back-errors, which has rounded the weights",
        ),
        (
            "round-to-nearest scales adaptive-granularity",
            "adaptive-granularity cannot come after reconstruct, which has trained the scales",
        ),
        (
            "compensate balance-attention round-to-nearest",
            "balance-attention cannot come after compensate, which has compensated",
        ),
        (
            "compensate grids perceptual-clipping reconstruct",
            "perceptual-clipping cannot come after compensate",
        ),
        ("asymmetric grids channel-grouping reconstruct", "the rounding of inputs"),
        ("compensate compensate round-to-nearest", "compensate cannot come after compensate"),
        ("grids round-to-nearest", "round-to-nearest cannot come after round-to-nearest"),
        (
            "grids reduce-condition reconstruct",
            "reconstruct needs a step before it that has set the grids. "
            "Put one of these there: round-to-nearest",
        ),
        ("feed-back-errors grids", "feed-back-errors needs a step before it that has set the grid"),
        ("perceptual-clipping round-to-nearest", "perceptual-clipping needs a step before it"),
        (
            "compensate grids",
            "at its end no step has rounded the weights. Add one of these: feed-back-errors, ",
        ),
        ("compensate", "at its end no step has set the grids"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(words, said):
    with pytest.raises(UserError, match="Recipe mine: .*" + said):
        check_steps(recipe(words))


def test_steps_on_the_whole_model_are_in_the_order_too():
    with pytest.raises(UserError, match=r"polish needs a step before it that has rounded"):
        check_steps(recipe("grids", closing=(Step("polish"),)))


def test_a_setting_can_contradict_a_recipe():
    with pytest.raises(UserError, match="no step has rounded the weights"):
        make_recipe("rtn", "w4a4", settings=("round-to-nearest.rounds_weights=false",))


def test_a_contradiction_is_said_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="reconstruct needs a step before it"):
        quantize(tmp_path / "no model", tmp_path / "no images", recipe("reconstruct"))
