"""A model calls itself simulated, and is saved, only when it is what its recipe says."""

import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.families import FAMILIES
from carsam.formats.checkpoint import update_manifest
from carsam.grids.base import UniformGrid
from carsam.grids.observers import Observer
from carsam.methods.registry import LEGACY_RECIPES, RECIPES
from carsam.simulation import slots
from carsam.simulation.expected import Expected
from carsam.simulation.layers import QuantizedLayer
from carsam.simulation.model import QuantizedModel, load_simulated, prepare
from carsam.simulation.relative_position import RelativePosition


@pytest.fixture
def model(tiny_sam, image_folder):
    return quantize(
        tiny_sam, image_folder, "rtn", count=1, settings=["round-to-nearest.activations=minmax"]
    )


def site(model, path):
    return next(site for site in model.sites if site.path == path)


LINEAR = "mask_decoder.transformer.layers.0.mlp.lin1"
ATTENTION = "vision_encoder.layers.1.attn"


def input_in_float_(model):
    slots.set_quantizer_(model.module, site(model, LINEAR), "input", torch.nn.Identity())


def value_in_float_(model):
    slots.set_quantizer_(model.module, site(model, ATTENTION), "value", torch.nn.Identity())


def weight_in_float_(model):
    slots.layer(model.module, site(model, LINEAR)).weight_grid = None


def other_bits_(model):
    grid = UniformGrid.from_range(torch.tensor([-1.0]), torch.tensor([1.0]), 5)
    slots.set_quantizer_(model.module, site(model, LINEAR), "input", grid)


def observed_still_(model):
    slots.set_quantizer_(model.module, site(model, LINEAR), "input", Observer(LINEAR, "input"))


def test_a_finished_model_is_simulated(model):
    assert model.mode == "simulated"


@pytest.mark.parametrize(
    "spoil_",
    [input_in_float_, value_in_float_, weight_in_float_, other_bits_, observed_still_],
)
def test_a_model_that_is_not_what_its_recipe_says_is_unfinished(model, spoil_, tmp_path):
    spoil_(model)
    assert model.mode == "unfinished"
    with pytest.raises(UserError, match=r"not what its recipe says.*(lin1|attn): "):
        model.save(tmp_path / "run")
    with pytest.raises(UserError, match="not what its recipe says"):
        model.to_checkpoint()
    assert not any(tmp_path.glob("run*"))


def test_a_float_model_is_float_whatever_its_recipe_says(model, tiny_sam, tmp_path):
    family = FAMILIES["sam"]
    empty = QuantizedModel(family, prepare(family, tiny_sam), model.provenance)
    assert empty.mode == "float"
    with pytest.raises(UserError, match="not what its recipe says"):
        empty.save(tmp_path / "run")


def test_without_a_recipe_nothing_is_called_finished(model, tmp_path):
    unknown = QuantizedModel(model.family, model.module)
    assert unknown.mode == "unfinished"
    with pytest.raises(UserError, match="names no recipe"):
        unknown.save(tmp_path / "run")


def test_a_legacy_recipe_without_activations_is_legacy(tiny_sam, image_folder, tmp_path):
    """Its fault is in the weights alone: nothing unusual stands in any slot."""
    settings = ["reconstruct-unfinished.steps=1"]
    made = quantize(tiny_sam, image_folder, "qdrop-legacy", "w4a32", count=1, settings=settings)
    assert made.mode == "legacy"
    with pytest.raises(UserError, match="A legacy model is half float"):
        made.save(tmp_path / "run")


def test_the_recipes_with_the_published_faults_are_the_legacy_ones():
    expected = {
        name: Expected.of(recipe.to_dict())
        for name, recipe in {**RECIPES, **LEGACY_RECIPES}.items()
    }
    assert {name for name, each in expected.items() if each.legacy} == set(LEGACY_RECIPES)


def test_an_engine_reports_what_it_loaded(model, tmp_path):
    model.save(tmp_path / "run")
    assert load(tmp_path / "run", "simulated").mode == "simulated"
    recipe = {**model.provenance["recipe"], "bits": "w6a6"}
    update_manifest(tmp_path / "run", {"recipe": recipe})
    assert load_simulated(tmp_path / "run").mode == "unfinished"
    assert load(tmp_path / "run", "simulated").mode == "unfinished"


@pytest.mark.parametrize("bias", [True, False])
def test_a_doubling_convolution_as_a_product_is_torchs(bias):
    layer = torch.nn.ConvTranspose2d(12, 5, 2, 2, bias=bias)
    image = torch.randn(3, 12, 4, 6, requires_grad=True)
    results = []
    for module in (layer, QuantizedLayer(layer)):
        output = module(image)
        output.square().sum().backward()
        results += [output.detach(), image.grad.clone(), layer.weight.grad.clone()]
        image.grad = layer.weight.grad = None
    for one, other in zip(results[:3], results[3:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_relative_positions_have_the_gradients_of_plain_sums():
    torch.manual_seed(0)
    position = RelativePosition(torch.randn(5, 8), torch.randn(7, 8), 3, 4)
    query = torch.randn(2, 2, 12, 8)
    weights = torch.randn(2, 2, 12, 12)

    def plain(scores, query):
        images = query.unflatten(2, (3, 4))
        by_row = torch.einsum("bnhwc,hkc->bnhwk", images, position.rows)
        by_column = torch.einsum("bnhwc,wkc->bnhwk", images, position.columns)
        return scores + (by_row[..., None] + by_column[..., None, :]).flatten(4).flatten(2, 3)

    results = []
    for add in (position.add_, plain):
        leaf, start = query.clone().requires_grad_(), torch.ones(2, 2, 12, 12, requires_grad=True)
        biased = add(start * 1.0, leaf)
        (biased * weights).sum().backward()
        results.append((biased.detach(), leaf.grad, start.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
