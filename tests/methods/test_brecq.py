import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.evaluation.strict import assert_strict
from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_FIRST
from carsam.simulation import slots

WEIGHTS = Step("reconstruct", {"steps": 20, "trains_scales": False})
EXACT = {"keep": 1.0, "keep_inputs": 1.0}  # nothing is drawn, so the loss falls for certain
SCALES = Step("reconstruct", {"steps": 20, "trains_weights": False, **EXACT})


@pytest.fixture
def mlp(tiny_sam, image_folder):
    """Function that quantizes the first MLP alone; returns its weight and its input's grid."""

    def quantize_mlp(*steps):
        rules = ["*=float", "vision_encoder.layers.0.mlp.lin1=w3a3"]
        recipe = Recipe("test", steps, rules=tuple(map(_rule, rules)))
        model = quantize(tiny_sam, image_folder, recipe, count=2)
        layer = model.module.vision_encoder.layers[0].mlp.lin1
        return layer.layer.weight, layer.input_quantizer.scale

    return quantize_mlp


def _rule(text):
    from carsam.methods.recipe import Rule

    return Rule.parse(text)


def test_the_first_pass_leaves_the_scales(mlp):
    (weight, scale), (rounded, observed) = mlp(GRIDS_FIRST, WEIGHTS), mlp(Step("round-to-nearest"))
    assert torch.equal(scale, observed)
    assert not torch.equal(weight, rounded)


def test_the_second_pass_leaves_the_weights(mlp):
    plain = Step("round-to-nearest")
    (weight, scale), (rounded, observed) = mlp(plain, SCALES), mlp(plain)
    assert torch.equal(weight, rounded)
    assert not torch.equal(scale, observed)


def test_brecq_is_strict(tiny_sam, image_folder, photo):
    model = quantize(tiny_sam, image_folder, "brecq", count=1, settings=["reconstruct.steps=3"])
    assert_strict(model, [photo])
    passes = [note["step"] for note in model.provenance["notes"]]
    units = {note["unit"] for note in model.provenance["notes"]}
    assert len(passes) == 2 * len(units)


def test_nothing_to_train_is_no_error(tiny_sam, image_folder):
    model = quantize(
        tiny_sam, image_folder, "brecq", "w4a32", count=1, settings=["reconstruct.steps=2"]
    )
    for site in model.sites:
        for operand in slots.operands(site):
            assert isinstance(slots.quantizer(model.module, site, operand), torch.nn.Identity)
