import json
from dataclasses import astuple

import numpy as np
import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.diagnosis.attention import attention_maps, focus, token_shares
from carsam.diagnosis.damage import Case, Diagnosis, Harm, diagnose
from carsam.diagnosis.oscillation import loss_curves, swing
from carsam.diagnosis.pictures import save_losses
from carsam.diagnosis.report import examine
from carsam.diagnosis.switches import SwitchedModel
from carsam.engines.torch_engine import TorchEngine
from carsam.images.prompts import Prompts
from carsam.methods.registry import make_recipe
from carsam.methods.units import plan_units
from carsam.progress import Silent
from carsam.simulation.model import prepare

BOXES = np.array([[4, 6, 40, 50], [10, 3, 60, 40]], np.float32)


@pytest.fixture
def case():
    pixels = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    return Case(pixels, Prompts(boxes=BOXES))


@pytest.fixture
def quantized(tiny_sam, image_folder):
    return quantize(tiny_sam, image_folder, "rtn", bits="w3a3", count=2)


@pytest.fixture
def switched(quantized, tiny_sam):
    return SwitchedModel(quantized, tiny_sam)


def units(model):
    return plan_units(model.family.stages(model.module), model.sites, make_recipe("rtn", "w3a3"))


def test_everything_on_is_the_quantized_model(switched, quantized):
    switched.switch_(switched.operands)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = quantized.module.get_image_embeddings(pixels)
        assert torch.equal(switched.module.get_image_embeddings(pixels), expected)


def test_everything_off_is_the_float_model(switched, quantized, tiny_sam, case):
    switched.switch_(switched.operands)
    switched.switch_(())
    prepared = prepare(quantized.family, tiny_sam)
    for name, tensor in prepared.state_dict().items():
        assert torch.equal(switched.module.state_dict()[name], tensor)


def test_the_last_unit_completes_the_model(switched, quantized, case):
    found = diagnose(switched, units(quantized), [case], Silent())
    assert found.cumulative[-1].logit_error == pytest.approx(found.everything.logit_error)
    assert found.cumulative[-1].lost_iou == pytest.approx(found.everything.lost_iou)


def test_the_first_unit_alone_is_the_first_of_all(switched, quantized, case):
    found = diagnose(switched, units(quantized), [case], Silent())
    assert found.alone[0] == found.cumulative[0]
    assert {harm.name for harm in found.operands} == {
        "weight",
        "input",
        "query",
        "key",
        "probabilities",
        "value",
    }


def test_weights_stay_where_the_recipe_changed_more_than_weights(tiny_sam, image_folder, case):
    settings = ("polish.steps=2",)
    quantized = quantize(tiny_sam, image_folder, "carsam-plus", "w4a4", settings=settings, count=2)
    model = SwitchedModel(quantized, tiny_sam)
    assert model.weights_stay
    found = diagnose(model, units(quantized), [case], Silent())
    assert found.weights_stay
    engine, reference = (
        TorchEngine(quantized.family, module, "simulated", "cpu")
        for module in (quantized.module, model.reference)
    )
    masks = [
        one.decode(one.encode(case.pixels), case.prompts, multimask_output=False)[0][:, 0]
        for one in (engine, reference)
    ]
    error = np.square(masks[0] - masks[1]).mean() / np.square(masks[1]).mean()
    assert found.everything.logit_error == pytest.approx(error, rel=1e-4)
    weight = next(harm for harm in found.operands if harm.name == "weight")
    assert weight.logit_error > 0
    assert found.cumulative[-1] == Harm(found.cumulative[-1].name, *astuple(found.everything)[1:])


def test_a_ruined_unit_is_named_first(quantized, tiny_sam, case):
    layer = quantized.module.vision_encoder.layers[1].mlp.lin2
    layer.layer.weight.data.mul_(30)
    model = SwitchedModel(quantized, tiny_sam)
    found = diagnose(model, units(quantized), [case], Silent())
    assert found.advice().startswith("Keep at 8 bits first: vision_encoder.layers.1.mlp")


def test_advice_takes_the_fewest_units_that_make_half_of_the_damage():
    harms = tuple(Harm(name, 0.0, error) for name, error in (("a", 1.0), ("b", 5.0), ("c", 3.0)))
    advice = Diagnosis(harms[0], harms, harms, harms[:1]).advice()
    assert "first: b (56 %" in advice


def test_attention_maps_are_distributions_over_the_image(quantized, case):
    maps = attention_maps(quantized.family, quantized.module, case)
    assert len(maps) == 3  # one per two-way block, and the final one
    for attention in maps.values():
        assert attention.shape == (2, 7, 8, 8)
        np.testing.assert_allclose(attention.sum((2, 3)), 1, atol=1e-4)


def test_focus_measures_entropy_and_mass_inside():
    spread = np.full((1, 1, 4, 4), 1 / 16)
    half = np.zeros((1, 4, 4))
    half[:, :2] = 1
    (found,) = focus({"site": spread}, half)
    assert found.entropy == pytest.approx(np.log(16))
    assert found.inside == pytest.approx(0.5)


def test_rows_that_rounding_has_emptied_are_counted_and_left_out():
    maps = np.zeros((1, 3, 4, 4), np.float32)
    maps[0, 0] = 1 / 16  # all heads
    maps[0, 1] = 1 / 32  # half of the heads: the other half's rows are empty
    (found,) = focus({"site": maps}, np.ones((1, 4, 4), np.float32))
    assert found.empty == pytest.approx(0.5)
    assert found.entropy == pytest.approx(np.log(16))
    assert found.inside == pytest.approx(1)
    (found,) = focus({"site": 0 * maps}, np.ones((1, 4, 4), np.float32))
    assert (found.entropy, found.inside, found.empty) == (0, 0, 1)


def test_token_shares_count_covered_pixels():
    logits = -np.ones((1, 8, 8))
    logits[:, :4, :2] = 1
    np.testing.assert_allclose(token_shares(logits, (2, 2)), [[[0.5, 0], [0, 0]]])


def test_the_report_is_written_whole(tiny_sam, image_folder, tmp_path):
    tiny_sam.save_pretrained(tmp_path / "model")
    quantize(str(tmp_path / "model"), image_folder, "rtn", count=1).save(tmp_path / "run")
    report = examine(tmp_path / "run", image_folder, tmp_path / "out", count=1, progress=Silent())
    written = json.loads((tmp_path / "out" / "doctor.json").read_text())
    assert written["advice"] == report.diagnosis.advice()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "attention.png",
        "damage.svg",
        "doctor.json",
    }


def note(unit, before, after, by_step):
    kept = after <= before
    return {
        "step": "reconstruct",
        "unit": unit,
        "loss_before": before,
        "loss_after": after,
        "kept": kept,
        "loss_by_step": by_step,
    }


def test_losses_are_taken_from_the_notes_of_training():
    notes = [{"step": "compensate", "site": "a"}, note("b", 2.0, 1.0, [4, 3, 2])]
    (curve,) = loss_curves(notes)
    assert (curve.unit, curve.before, curve.after, curve.kept) == ("b", 2.0, 1.0, True)


def test_rises_are_the_share_of_changes_upwards():
    steady, swinging = loss_curves([note("a", 2, 1, [4, 3, 2]), note("b", 2, 1, [3, 1, 2, 1])])
    assert steady.rises == 0
    assert swinging.rises == pytest.approx(1 / 4)


def test_the_swing_compares_units_with_their_neighbours():
    doubling = loss_curves([note("a", 9, 1, []), note("b", 9, 2, []), note("c", 9, 1, [])])
    assert swing(doubling) == pytest.approx(np.log(2))
    put_back = loss_curves([note("a", 1, 5, []), note("b", 1, 1, [])])
    assert swing(put_back) == 0


def test_a_trained_run_gets_a_plot_of_its_losses(tmp_path):
    curves = loss_curves([note("a", 2, 1, [4, 3, 2]), note("b", 2, 1, [3, 1, 2, 1])])
    save_losses(curves, tmp_path / "losses.svg")
    assert "loss of the unit" in (tmp_path / "losses.svg").read_text()
