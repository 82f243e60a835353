import math
from dataclasses import replace

import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.evaluation.strict import assert_strict
from carsam.families import FAMILIES
from carsam.grids.base import UniformGrid
from carsam.methods.registry import make_recipe
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.training.reconstruct import Reconstruct
from carsam.methods.units import plan_units
from carsam.simulation import slots
from carsam.simulation.layers import QuantizedLayer
from carsam.simulation.trainable import LearnedGrid, SoftRounding

FAST = ["reconstruct.steps=40"]
GRIDS = RoundToNearest(rounds_weights=False)


@pytest.fixture
def linear():
    torch.manual_seed(0)
    layer = QuantizedLayer(torch.nn.Linear(16, 8))
    rows = layer.layer.weight.detach()
    layer.weight_grid = UniformGrid.from_range(
        1.2 * rows.amin(1, True), 1.2 * rows.amax(1, True), 4
    )
    return layer


def test_soft_rounding_starts_at_the_float_weight(linear):
    weight = linear.layer.weight.detach()
    rounding = SoftRounding(linear.layer, linear.weight_grid)
    torch.testing.assert_close(rounding(weight), weight, atol=1e-5, rtol=0)


def test_hard_rounding_lies_on_the_grid_within_one_step(linear):
    weight = linear.layer.weight.detach()
    rounding = SoftRounding(linear.layer, linear.weight_grid)
    rounding.alpha.data.normal_()
    rounding.hard = True
    hard = rounding(weight)
    assert torch.equal(linear.weight_grid(hard), hard)
    assert ((hard - weight).abs() <= 1.001 * linear.weight_grid.scale).all()


def test_the_regulariser_vanishes_when_every_weight_has_decided(linear):
    rounding = SoftRounding(linear.layer, linear.weight_grid)
    assert rounding.undecided(2.0) > 1
    rounding.alpha.data.sign_().mul_(20)
    assert float(rounding.undecided(2.0)) == 0


def test_a_learned_grid_starts_as_the_grid():
    grid = UniformGrid.from_range(torch.tensor([-1.0]), torch.tensor([2.0]), 4)
    values = torch.randn(100)
    learned = LearnedGrid(grid, 1.0, torch.Generator())
    torch.testing.assert_close(learned(values), grid(values), atol=1e-6, rtol=0)


def test_the_scales_gradient_is_that_of_lsq():
    grid = UniformGrid(torch.tensor([0.5]), torch.tensor([0.0]), 2)
    learned = LearnedGrid(grid, 1.0, torch.Generator())
    learned(torch.tensor([0.7, 9.0])).sum().backward()
    # Inside: round(v / s) - v / s; above: the highest code (LSQ), both times the start.
    expected = 0.5 * ((1 - 1.4) + 3)
    assert float(learned.factor.grad) == pytest.approx(expected, abs=1e-5)


def test_keep_is_the_probability_of_being_quantized():
    grid = UniformGrid.from_range(torch.tensor([-1.0]), torch.tensor([2.0]), 2)
    values = torch.randn(20_000)
    dropped = LearnedGrid(grid, 0.25, torch.Generator().manual_seed(0))(values)
    assert float((dropped != values).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_the_reconstructed_model_is_strict(tiny_sam, image_folder, photo):
    model = quantize(tiny_sam, image_folder, "qdrop", count=2, settings=FAST)
    assert_strict(model, [photo])


@torch.no_grad()
@pytest.mark.parametrize(
    "path",
    [
        "vision_encoder.layers.1.attn",
        "vision_encoder.layers.0.mlp",
        "mask_decoder.transformer.layers.0.cross_attn_image_to_token",
    ],
)
def test_a_reconstructed_unit_comes_closer_than_one_rounded_to_nearest(make_unit, path):
    errors = []
    for steps in ((RoundToNearest(),), (GRIDS, Reconstruct(steps=150))):
        unit = make_unit(path)
        for step in steps:
            step.run_(unit)
        (name,) = unit.plan.outputs
        outputs = torch.stack([unit.plan.run(unit.model, state)[name] for state in unit.inputs])
        targets = torch.stack([target[name] for target in unit.targets])
        errors.append(float((outputs - targets).square().sum()))
    assert errors[1] < 0.95 * errors[0]


def reconstructed(make_unit, **parameters):
    """The first MLP's weights after a short training."""
    unit = make_unit("vision_encoder.layers.0.mlp", bits="w3a8")
    with torch.no_grad():
        GRIDS.run_(unit)
        Reconstruct(steps=30, rounding_rate=0.05, **parameters).run_(unit)
    return torch.cat([slots.layer(unit.model, s).layer.weight.flatten() for s, _ in unit.sites])


def test_the_regulariser_waits_for_the_end_of_the_warm_up(make_unit):
    free = reconstructed(make_unit, rounding_weight=0.0)
    assert torch.equal(reconstructed(make_unit, rounding_weight=100.0, warm_up=1.0), free)
    assert not torch.equal(reconstructed(make_unit, rounding_weight=100.0, warm_up=0.5), free)


def test_the_same_seed_trains_the_same_bits(tiny_sam, image_folder):
    models = [quantize(tiny_sam, image_folder, "qdrop", count=2, settings=FAST) for _ in range(2)]
    first, second = (model.module.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_unit_whose_loss_grows_is_put_back(tiny_sam, image_folder):
    settings = [*FAST, "reconstruct.scale_rate=50.0", "reconstruct.rounding_rate=0.0"]
    with pytest.warns(UserWarning, match="reconstruction raised the loss"):
        wild = quantize(tiny_sam, image_folder, "qdrop", count=2, settings=settings)
    plain = quantize(tiny_sam, image_folder, "rtn", count=2)
    put_back = {n["unit"] for n in wild.provenance["notes"] if not n["kept"]}
    first = "vision_encoder.layers.0.attn + vision_encoder.layers.0.mlp"
    assert first in put_back
    site = next(s for s in wild.sites if s.path == "vision_encoder.layers.0.mlp.lin2")
    grids = [slots.quantizer(model.module, site, "input") for model in (wild, plain)]
    assert torch.equal(grids[0].scale, grids[1].scale)


def test_units_follow_the_recipe(tiny_sam, image_folder):
    model = quantize(tiny_sam, image_folder, "qdrop", count=1, settings=["reconstruct.steps=2"])
    units = [note["unit"] for note in model.provenance["notes"]]
    assert "vision_encoder.layers.0.attn + vision_encoder.layers.0.mlp" in units
    assert "mask_decoder.transformer.layers.0.self_attn" in units


def test_losses_are_finite_numbers(tiny_sam, image_folder):
    model = quantize(tiny_sam, image_folder, "qdrop", count=1, settings=["reconstruct.steps=3"])
    for note in model.provenance["notes"]:
        assert all(math.isfinite(loss) for loss in note["loss_by_step"])


def test_carsam_joins_the_cross_attentions_and_compensates_first(tiny_sam, image_folder, photo):
    model = quantize(tiny_sam, image_folder, "carsam", count=2, settings=["reconstruct.steps=5"])
    block = "mask_decoder.transformer.layers.0"
    joint = " + ".join(
        f"{block}.{part}"
        for part in ("cross_attn_token_to_image", "mlp", "cross_attn_image_to_token")
    )
    notes = model.provenance["notes"]
    steps = [note["step"] for note in notes if joint in (note.get("unit"), note.get("site"))]
    assert steps == ["reconstruct"]
    compensated = {note["site"] for note in notes if note["step"] == "compensate"}
    assert f"{block}.cross_attn_token_to_image" in compensated
    assert_strict(model, [photo])


@pytest.mark.parametrize("merge", ["self+cross", "cross+cross", "two-way-block"])
def test_the_granularities_of_the_papers_figure_can_be_chosen(tiny_sam, merge):
    family = FAMILIES["sam"]
    recipe = replace(make_recipe("qdrop", "w4a4"), units=(merge,))
    plans = plan_units(family.stages(tiny_sam), family.sites(tiny_sam), recipe)
    sizes = [len(plan.stages) for plan in plans]
    assert max(sizes) == {"self+cross": 2, "cross+cross": 3, "two-way-block": 4}[merge]
    assert sum(sizes) == len(family.stages(tiny_sam)) - 2  # mask head and mask prompt stay float


def test_an_unknown_granularity_is_refused(tiny_sam):
    family = FAMILIES["sam"]
    recipe = replace(make_recipe("qdrop", "w4a4"), units=("everything",))
    with pytest.raises(ValueError, match="Units everything are not known"):
        plan_units(family.stages(tiny_sam), family.sites(tiny_sam), recipe)


def test_the_encoder_takes_its_share_of_the_steps(tiny_sam, image_folder):
    settings = ("reconstruct.steps=6", "reconstruct.encoder_share=0.5")
    notes = quantize(tiny_sam, image_folder, "qdrop", "w4a4", settings=settings).provenance["notes"]
    steps = {note["unit"]: len(note["loss_by_step"]) for note in notes}
    encoder = {unit: count for unit, count in steps.items() if "encoder.layers" in unit}
    assert set(encoder.values()) == {3}
    assert {count for unit, count in steps.items() if unit not in encoder} == {6}
