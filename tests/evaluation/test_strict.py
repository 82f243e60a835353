from dataclasses import replace

import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.errors import UserError
from carsam.evaluation.strict import StrictError, assert_strict
from carsam.families.base import SiteType
from carsam.grids.base import UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.methods.registry import LEGACY_RECIPES, make_recipe
from carsam.simulation import slots
from carsam.simulation.model import QuantizedModel


@pytest.fixture
def model(tiny_sam, image_folder):
    return quantize(
        tiny_sam, image_folder, "rtn", count=2, settings=["round-to-nearest.activations=minmax"]
    )


def site(model, path):
    return next(site for site in model.sites if site.path == path)


LINEAR = "vision_encoder.layers.0.mlp.lin1"
ATTENTION = "mask_decoder.transformer.layers.1.cross_attn_token_to_image"


def quantized_sites(model):
    """The sites that the recipe quantizes, which is all that have grids in a sound model."""
    return [site for site in model.sites if any(slots.fillings(model.module, site).values())]


def make_float_(model, site, *operands):
    """Take grids out, as if nothing had ever stood there."""
    for operand in operands:
        if operand == "weight":
            slots.layer(model.module, site).weight_grid = None
        else:
            slots.set_quantizer_(model.module, site, operand, torch.nn.Identity())


def test_a_quantized_model_passes(model, photo):
    assert_strict(model, [photo])


def test_the_first_published_fault_is_found(model, photo):
    """Inputs of the MLPs' linears stay in float."""
    for path in (each.path for each in model.sites if each.kind.endswith(".mlp")):
        make_float_(model, site(model, path), "input")
    with pytest.raises(StrictError, match=f"{LINEAR}: input is in float, but the recipe says 4"):
        assert_strict(model, [photo])


def test_the_second_published_fault_is_found(model, photo):
    """Weights are not rounded, so that no grid claims to hold them."""
    for path in (each.path for each in model.sites if each.kind.endswith(".mlp")):
        slots.layer(model.module, site(model, path)).layer.weight.data += 1e-3
        make_float_(model, site(model, path), "weight")
    with pytest.raises(StrictError, match=f"{LINEAR}: weight is in float, but the recipe says 4"):
        assert_strict(model, [photo])


def test_a_model_that_is_float_throughout_is_found(model, photo):
    for each in quantized_sites(model):
        make_float_(model, each, *slots.fillings(model.module, each))
    with pytest.raises(StrictError, match=r"layers\.0\.attn\.qkv: input is in float"):
        assert_strict(model, [photo])


def test_every_single_operand_and_weight_is_demanded(model):
    for each in quantized_sites(model):
        for operand, grid in slots.fillings(model.module, each).items():
            make_float_(model, each, operand)
            with pytest.raises(StrictError, match=rf"{each.path}: {operand} is in float[^(]*\.$"):
                assert_strict(model, [])
            put_(model, each, operand, grid)


def put_(model, each, operand, grid):
    if operand == "weight":
        slots.layer(model.module, each).weight_grid = grid
    else:
        slots.set_quantizer_(model.module, each, operand, grid)


@pytest.mark.parametrize(
    ("path", "operand"), [(LINEAR, "input"), (LINEAR, "weight"), (ATTENTION, "probabilities")]
)
def test_other_bits_than_the_recipes_are_found(model, photo, path, operand):
    wide = UniformGrid.from_range(torch.tensor([-1.0]), torch.tensor([1.0]), 8)
    put_(model, site(model, path), operand, wide)
    said = f"{path}: {operand} has a grid of 8 bits, but the recipe says 4 bits"
    with pytest.raises(StrictError, match=said):
        assert_strict(model, [photo])


@pytest.mark.parametrize("many", ["entries", "other values"])
def test_a_codebook_that_lets_more_values_through_is_found(model, photo, many):
    scale, zero = torch.tensor([0.05]), torch.tensor([128.0])
    grid = CodebookGrid(scale, zero, 120 + torch.arange(16), 4)
    put_(model, site(model, LINEAR), "input", grid)
    assert_strict(model, [photo])
    fine = torch.arange(256.0)
    grid._step_of = fine - zero
    if many == "entries":
        grid.entries = fine
    found = f"{LINEAR}: input enters .*{'not ' * (many != 'entries')}all on its grid of 16"
    with pytest.raises(StrictError, match=found):
        assert_strict(model, [photo])


def test_a_grid_where_the_recipe_says_float_is_found(model, photo):
    path = "vision_encoder.patch_embed.projection"
    grid = UniformGrid.from_range(torch.tensor([-1.0]), torch.tensor([1.0]), 4)
    put_(model, site(model, path), "input", grid)
    with pytest.raises(StrictError, match=f"{path}: input has a grid of 4 bits, .* leaves it in"):
        assert_strict(model, [photo])


@pytest.mark.parametrize("kind", [SiteType.LINEAR, SiteType.ATTENTION])
def test_a_module_without_slots_counts_as_float(model, photo, kind):
    path = {SiteType.LINEAR: LINEAR, SiteType.ATTENTION: ATTENTION}[kind]
    if kind is SiteType.LINEAR:
        model.module.set_submodule(path, model.module.get_submodule(path).layer)
    else:
        del model.module.get_submodule(path).product
    with pytest.raises(StrictError, match=f"{path}: .* is in float"):
        assert_strict(model, [photo])


def test_rules_change_what_is_expected(tiny_sam, image_folder, photo):
    rules = ["encoder.mlp=w8a32", "decoder.iou_head=w4a6", "decoder.self_attention=float"]
    model = quantize(tiny_sam, image_folder, "rtn", count=1, rules=rules)
    assert_strict(model, [photo])
    plain = QuantizedModel(model.family, model.module)
    with pytest.raises(StrictError, match=r"mlp\.lin1: input is in float.* \(\d+ more"):
        assert_strict(plain, [photo], make_recipe("rtn", "w4a4"))


def test_weights_alone_can_be_strict(tiny_sam, image_folder, photo):
    assert_strict(quantize(tiny_sam, image_folder, "rtn", "w3a32", count=1), [photo])


def test_without_a_recipe_nothing_can_be_expected(model, photo):
    unknown = QuantizedModel(model.family, model.module)
    with pytest.raises(UserError, match="names no recipe"):
        assert_strict(unknown, [photo])
    assert_strict(unknown, [photo], make_recipe("rtn", "w4a4"))


def test_a_recipe_that_quantizes_nothing_proves_nothing(model, photo):
    for each in quantized_sites(model):
        make_float_(model, each, *slots.fillings(model.module, each))
    with pytest.raises(StrictError, match="nothing to prove"):
        assert_strict(model, [photo], make_recipe("rtn", "float"))


def test_a_legacy_recipe_is_never_strict(model, photo):
    """Even where its faults happen to leave no trace."""
    recipe = replace(LEGACY_RECIPES["qdrop-legacy"], bits=make_recipe("rtn", "w4a4").bits)
    with pytest.raises(StrictError, match="qdrop-legacy leaves the published faults"):
        assert_strict(model, [photo], recipe)


class Boundless(UniformGrid):
    """A grid that takes every value for one of its own."""

    def forward(self, values):
        return values


def test_weights_are_counted_whatever_their_grid_says(model, photo):
    layer = slots.layer(model.module, site(model, LINEAR))
    layer.weight_grid.__class__ = Boundless
    layer.layer.weight.data.normal_()
    with pytest.raises(StrictError, match=f"{LINEAR}: a weight channel has 32 distinct values"):
        assert_strict(model, [photo])


def test_activations_are_counted_whatever_their_grid_says(model, photo):
    slots.quantizer(model.module, site(model, LINEAR), "input").__class__ = Boundless
    with pytest.raises(StrictError, match=r"input enters its product with \d+ .*, all on its grid"):
        assert_strict(model, [photo])


def test_integers_are_counted_whatever_their_grid_says(model, photo):
    """A grid that says 4 bits and lists the numerators of 8."""
    wide = RowMaximumGrid.curved(20.0, 8)
    wide.bits = 4
    slots.set_quantizer_(model.module, site(model, ATTENTION), "probabilities", wide)
    with pytest.raises(StrictError, match=r"probabilities enters .* with \d+ .*, all on its grid"):
        assert_strict(model, [photo])


def test_a_weight_off_its_grid_is_found(model, photo):
    slots.layer(model.module, site(model, LINEAR)).layer.weight.data[3, 3] += 1e-3
    with pytest.raises(StrictError, match=f"{LINEAR}: 1 weight channels are off"):
        assert_strict(model, [photo])


def test_a_quantizer_that_drops_is_found(model, photo):
    """The published fault: half of the elements of a linear's input pass in float."""

    class Dropping(type(slots.quantizer(model.module, site(model, LINEAR), "input"))):
        def forward(self, values):
            return torch.where(torch.rand_like(values) < 0.5, values, super().forward(values))

    slots.quantizer(model.module, site(model, LINEAR), "input").__class__ = Dropping
    with pytest.raises(StrictError, match=f"{LINEAR}: input enters its product with"):
        assert_strict(model, [photo])


@pytest.mark.parametrize("operand", ["query", "key", "probabilities", "value"])
def test_an_attention_operand_left_in_float_is_found(model, photo, operand):
    grid = slots.quantizer(model.module, site(model, ATTENTION), operand)
    grid.steps = lambda values, *_: values
    with pytest.raises(StrictError, match=f"{ATTENTION}: {operand} enters its product with"):
        assert_strict(model, [photo])


def test_randomness_is_found(model, photo):
    norm = model.module.vision_encoder.neck.layer_norm2
    norm.register_forward_hook(lambda m, i, output: output + 1e-3 * torch.rand_like(output))
    with pytest.raises(StrictError, match="Two runs on the same image differ"):
        assert_strict(model, [photo])


def test_an_observer_left_behind_is_found(model, photo):
    from carsam.grids.observers import Observer

    slots.set_quantizer_(model.module, site(model, LINEAR), "input", Observer(LINEAR, "input"))
    with pytest.raises(StrictError, match="a Observer is left in the slot of input"):
        assert_strict(model, [photo])


def test_an_attention_that_bypasses_its_product_is_found(model, photo):
    model.module.config.mask_decoder_config._attn_implementation = "eager"
    with pytest.raises(StrictError, match="Never multiplied"):
        assert_strict(model, [photo])


def test_without_images_nothing_is_proven(model):
    with pytest.raises(ValueError, match="at least one"):
        assert_strict(model, [])
