import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.evaluation.strict import StrictError, assert_strict
from carsam.simulation import slots


@pytest.fixture
def model(tiny_sam, image_folder):
    return quantize(
        tiny_sam, image_folder, "rtn", count=2, settings=["round-to-nearest.activations=minmax"]
    )


def site(model, path):
    return next(site for site in model.sites if site.path == path)


LINEAR = "vision_encoder.layers.0.mlp.lin1"
ATTENTION = "mask_decoder.transformer.layers.1.cross_attn_token_to_image"


def test_a_quantized_model_passes(model, photo):
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
