import pytest

from carsam.calibration.quantize import quantize
from carsam.evaluation.strict import StrictError, assert_strict
from carsam.grids.base import Grid
from carsam.methods.registry import LEGACY_RECIPES, RECIPES
from carsam.methods.steps.training.legacy import HalfFloat
from carsam.simulation import slots

FAST = ["reconstruct-unfinished.steps=3"]


@pytest.fixture(params=sorted(LEGACY_RECIPES))
def legacy(request, tiny_sam, image_folder):
    return quantize(tiny_sam, image_folder, request.param, count=1, settings=FAST)


def test_legacy_recipes_are_never_among_all():
    assert not set(LEGACY_RECIPES) & set(RECIPES)


def test_the_inputs_of_layers_drop_but_attention_operands_do_not(legacy):
    fillings = {
        (site.path, operand): slots.quantizer(legacy.module, site, operand)
        for site in legacy.sites
        for operand in slots.operands(site)
    }
    dropping = {operand for (_, operand), f in fillings.items() if isinstance(f, HalfFloat)}
    assert dropping == {"input"}
    assert any(isinstance(f, Grid) for (_, operand), f in fillings.items() if operand == "query")


def test_only_the_first_layer_of_a_unit_is_on_its_grid(legacy):
    layers = [slots.weight_layer(legacy.module, site) for site in legacy.sites]
    soft = [layer for layer in layers if layer is not None and layer.weight_grid is None]
    hard = [layer for layer in layers if layer is not None and layer.weight_grid is not None]
    assert soft and hard


def test_the_strict_check_fails_and_nothing_can_be_saved(legacy, photo, tmp_path):
    assert legacy.mode == "legacy"
    with pytest.raises(StrictError, match="HalfFloat is left in the slot of input"):
        assert_strict(legacy, [photo])
    with pytest.raises(ValueError, match="A legacy model is half float"):
        legacy.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()
