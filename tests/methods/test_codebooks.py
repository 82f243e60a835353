import numpy as np
import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.evaluation.strict import assert_strict
from carsam.formats.checkpoint import read_checkpoint, write_checkpoint
from carsam.grids.base import UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.images.preprocess import Framing, preprocess
from carsam.methods.recipe import Recipe, Step
from carsam.methods.steps.ranges.codebooks import Codebooks
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.simulation import slots
from carsam.simulation.model import from_checkpoint

ATTENDED = {"query", "key", "value"}


def codebooks(unit):
    """Site and operand of every codebook."""
    return {
        (site.path, operand)
        for site, _ in unit.sites
        for operand in slots.operands(site)
        if isinstance(slots.quantizer(unit.model, site, operand), CodebookGrid)
    }


@pytest.fixture
def unit(make_unit):
    unit = make_unit("vision_encoder.layers.0.attn")
    RoundToNearest().run_(unit)
    return unit


@pytest.mark.parametrize(
    ("step", "operands"),
    [
        (Codebooks(), {"input"}),
        (Codebooks(inputs=False, attention=True), ATTENDED),
        (Codebooks(attention=True), {"input"} | ATTENDED),
        (Codebooks(gain=1e9), set()),
    ],
)
def test_the_operands_that_are_asked_for_get_codebooks(unit, step, operands):
    step.run_(unit)
    assert {operand for _, operand in codebooks(unit)} == operands
    assert len(unit.notes) == len(codebooks(unit))
    assert all(note["gain"] >= 1 for note in unit.notes)


def test_other_grids_and_those_of_8_bits_stay(make_unit):
    unit = make_unit("vision_encoder.layers.0.attn", bits="w4a8")
    RoundToNearest().run_(unit)
    Codebooks(attention=True).run_(unit)
    assert not codebooks(unit)
    unit = make_unit("vision_encoder.layers.0.attn")
    Codebooks(attention=True).run_(unit)  # observers or nothing in the slots
    assert not codebooks(unit)


@torch.no_grad()
def test_the_inputs_error_falls_by_the_gain_that_is_noted(unit):
    site = next(site for site, _ in unit.sites if site.path.endswith("qkv"))
    uniform = slots.quantizer(unit.model, site, "input")
    assert isinstance(uniform, UniformGrid)
    values = []
    slots.set_quantizer_(unit.model, site, "input", torch.nn.Identity())
    layer = slots.layer(unit.model, site)
    hook = layer.register_forward_pre_hook(lambda _, inputs: values.append(inputs[0].clone()))
    for state in unit.inputs:
        unit.plan.run(unit.model, state)
    hook.remove()
    slots.set_quantizer_(unit.model, site, "input", uniform)
    Codebooks().run_(unit)
    book = slots.quantizer(unit.model, site, "input")
    values = torch.cat([v.flatten() for v in values])
    errors = [float((grid(values) - values).square().sum()) for grid in (uniform, book)]
    noted = next(note["gain"] for note in unit.notes if note["site"] == site.path)
    assert errors[0] / errors[1] == pytest.approx(noted, rel=0.05)


@pytest.mark.parametrize(
    ("name", "value"), [("gain", -1.0), ("gain", float("nan")), ("fine_bits", 1), ("fine_bits", 9)]
)
def test_a_number_that_makes_no_sense_is_refused(name, value):
    with pytest.raises(UserError, match=f"codebooks: {name} is"):
        Codebooks(**{name: value})


def test_a_model_with_codebooks_is_strict_and_the_same_after_reading_it(
    tiny_sam, image_folder, photo, tmp_path
):
    recipe = Recipe("test", (Step("round-to-nearest"), Step("codebooks", {"attention": True})))
    quantize(tiny_sam, image_folder, recipe, count=2).save(tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run")
    assert_strict(from_checkpoint(checkpoint), [photo], recipe)
    pixels, _ = preprocess(photo, Framing(64))
    (native,), (simulated,) = (
        load(tmp_path / "run", engine).encode(pixels) for engine in ("native", "simulated")
    )
    np.testing.assert_allclose(native, simulated, atol=1e-5 * np.abs(simulated).max())


@pytest.mark.parametrize("damage", ["no zero", "descending"])
def test_entries_that_are_none_are_refused_on_reading(tiny_sam, image_folder, tmp_path, damage):
    recipe = Recipe("test", (Step("round-to-nearest"), Step("codebooks")))
    checkpoint = quantize(tiny_sam, image_folder, recipe, count=1).to_checkpoint()
    name = "vision_encoder.layers.0.mlp.lin2.input"
    tensors = dict(checkpoint.tensors)
    if damage == "no zero":
        tensors[f"{name}_zero_point"] = tensors[f"{name}_entries"][-1:] + np.uint8(1)
    else:
        tensors[f"{name}_entries"] = tensors[f"{name}_entries"][::-1].copy()
    write_checkpoint(tmp_path / "run", checkpoint.manifest, tensors)
    with pytest.raises(UserError, match=f"damaged: {name}_entries are .* ascend"):
        read_checkpoint(tmp_path / "run")
