"""Compensation on the decoder of a tiny random SAM; errors are measured by hooks of their own."""

import copy
import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from carsam.calibration.observe import run_observed
from carsam.calibration.quantize import quantize
from carsam.errors import UserError
from carsam.evaluation.strict import assert_strict
from carsam.families.sam.family import SamFamily
from carsam.grids.observers import activation_grid
from carsam.methods.base import Unit
from carsam.methods.recipe import Bits, Recipe, Rule, Step
from carsam.methods.steps.mac.attention_equations import (
    score_equation,
    score_weights,
    value_equation,
)
from carsam.methods.steps.mac.compensate import Compensate
from carsam.methods.steps.mac.compensated_attention import BIAS_COLUMN, CompensatedAttention
from carsam.methods.steps.mac.solvers import SOLVERS, Solution, solve_exact
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.softmax.adaptive_granularity import AdaptiveGranularity
from carsam.methods.steps.softmax.logarithmic_softmax import LogarithmicSoftmax
from carsam.methods.steps.softmax.row_maximum_softmax import RowMaximumSoftmax
from carsam.methods.steps.softmax.twin_uniform import TwinUniform
from carsam.methods.units import plan_units
from carsam.progress import Silent
from carsam.simulation.model import prepare

NEAREST = (RoundToNearest(),)
ONLY_PRODUCTS = ("*_proj=float", "*.mlp.*=float")
PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
TRANSFORMER = "mask_decoder.transformer"
FIRST = f"{TRANSFORMER}.layers.0"
SECOND = f"{TRANSFORMER}.layers.1"
FINAL = f"{TRANSFORMER}.final_attn_token_to_image"
ATTENTIONS = [
    f"{block}.{name}"
    for block in (FIRST, SECOND)
    for name in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
] + [FINAL]


def float_units(model, count=3, rules=ONLY_PRODUCTS, units=(), bits="w4a4"):
    """Yield every unit in float, with activations of random pixels and two boxes per image."""
    family = SamFamily()
    model = prepare(family, model)
    recipe = Recipe("test", (), units, Bits.parse(bits), tuple(Rule.parse(rule) for rule in rules))
    generator = torch.Generator().manual_seed(1)
    boxes = torch.tensor([[[8.0, 8, 40, 40], [20, 4, 60, 30]]])
    states = tuple(
        family.start(torch.randn(1, 3, 64, 64, generator=generator), boxes + index)
        for index in range(count)
    )
    with torch.no_grad():
        for plan in plan_units(family.stages(model), family.sites(model), recipe):
            targets, statistics = run_observed(model, plan, states, lambda *_: True, Silent())
            yield Unit(model, plan, states, states, targets, statistics)
            states = targets


def unit_of(model, path, **options):
    """The unit that holds the attention at `path`."""
    for unit in float_units(model, **options):
        if path in {site.path for site, _ in unit.sites}:
            return unit
    raise AssertionError(path)


def compensated(unit, later=NEAREST, **parameters):
    """A copy of the unit, compensated for what later steps do."""
    unit = replace(
        unit,
        model=copy.deepcopy(unit.model),
        statistics=dict(unit.statistics),
        notes=[],
        later=later,
    )
    with torch.no_grad():
        Compensate(**parameters).run_(unit)
    return unit


def attended(unit, path):
    """What leaves the attention's product over the unit's inputs."""
    outputs = []
    product = unit.model.get_submodule(path).product
    handle = product.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        for state in unit.inputs:
            unit.plan.run(unit.model, state)
    handle.remove()
    return torch.cat(outputs).double()


@torch.no_grad()
def projected(unit, path):
    """Per image and operand, what enters its projection and what leaves it, by head."""
    attention = unit.model.get_submodule(path)
    heads, images = attention.num_attention_heads, []

    def keep(operand):
        def hook(module, inputs, output):
            rows = inputs[0].flatten(0, 1)[:, None].double()  # (batch, 1, tokens, channels)
            made = output.flatten(0, 1).unflatten(2, (heads, -1)).transpose(1, 2)
            images[-1][operand] = rows, made.double()  # (batch, heads, tokens, d)

        return hook

    layers = {operand: getattr(attention, name) for operand, name in PROJECTIONS.items()}
    handles = [layer.register_forward_hook(keep(operand)) for operand, layer in layers.items()]
    for state in unit.inputs:
        images.append({})
        unit.plan.run(unit.model, state)
    for handle in handles:
        handle.remove()
    return images


def scores(unit, path):
    """Query times key as rounded, without what softmax ignores, over the unit's inputs."""
    grids = unit.model.get_submodule(path).product.quantizers
    products = []
    for image in projected(unit, path):
        query, key = (grids[name](image[name][1].float()) for name in ("query", "key"))
        products.append(query.double() @ key.double().mT)
    return torch.cat([product - product.mean(-1, keepdim=True) for product in products])


def score_error(unit, target, path):
    return float((scores(unit, path) - target).square().sum() / target.square().sum())


def weights(unit, path):
    attention = unit.model.get_submodule(path)
    return {
        operand: torch.cat(
            [parameter.flatten() for parameter in getattr(attention, name).parameters()]
        )
        for operand, name in PROJECTIONS.items()
    }


def quantized(unit, later=NEAREST):
    """A copy of the unit after the later steps, all that its sites ask for."""
    unit = replace(unit, model=copy.deepcopy(unit.model), notes=[])
    with torch.no_grad():
        for step in later:
            step.run_(unit)
    return unit


def quantization_error(unit, target, path, later=NEAREST):
    """Error of what leaves the product of the quantized unit, relative to its energy."""
    error = attended(quantized(unit, later), path) - target
    return float(error.square().sum() / target.square().sum())


LATER = {
    "uniform": NEAREST,
    "averaged extremes": (RoundToNearest(activations="averaged-minmax"),),
    "row-maximum": (RoundToNearest(), RowMaximumSoftmax(images=2)),
    "logarithmic": (
        RoundToNearest(),
        AdaptiveGranularity(granularities="2,4", power=2.0, queries=5),
    ),
    "log1p": (RoundToNearest(), LogarithmicSoftmax(queries=5)),
    "twin": (RoundToNearest(), TwinUniform(shifts=4)),
}
"""Steps after `compensate`."""


@pytest.mark.parametrize("path", ATTENTIONS)
def test_the_noted_error_is_that_of_the_quantized_attention(tiny_sam, path):
    unit = unit_of(tiny_sam, path)
    changed = compensated(unit)
    last = changed.notes[-1]
    assert last["projection"] == "value"
    noted = last["after"] if last["accepted"] else last["before"]
    error = quantization_error(changed, attended(unit, path), path)
    assert error == pytest.approx(noted, rel=1e-3)


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("path", [FINAL, f"{FIRST}.cross_attn_image_to_token"])
def test_errors_are_those_with_the_grids_that_later_steps_set(tiny_sam, path, name):
    unit = unit_of(tiny_sam, path)
    changed = compensated(unit, LATER[name])
    assert any(note["accepted"] for note in changed.notes)
    target = attended(unit, path)
    errors = [quantization_error(each, target, path, LATER[name]) for each in (unit, changed)]
    first, last = changed.notes[0], changed.notes[-1]
    noted = [first["before"], last["after"] if last["accepted"] else last["before"]]
    # An attention rounds logits to steps first; the compensation looks at probabilities.
    assert errors == pytest.approx(noted, rel=2e-2 if name == "row-maximum" else 1e-3)


def test_without_later_grids_there_is_nothing_to_compensate_for(tiny_sam):
    with pytest.raises(UserError, match="needs a later step that sets the grids"):
        compensated(unit_of(tiny_sam, FINAL), later=(AdaptiveGranularity(),))


@pytest.mark.parametrize("rules", [ONLY_PRODUCTS, ()])
def test_quantized_attentions_come_closer_to_the_float_ones(tiny_sam, rules):
    """The second rules also round the projections' weights and inputs."""
    before = after = 0.0
    for path in ATTENTIONS:
        unit = unit_of(tiny_sam, path, rules=rules)
        target = attended(unit, path)
        before += quantization_error(unit, target, path)
        after += quantization_error(compensated(unit), target, path)
    assert after < 0.9 * before


def test_images_not_calibrated_on_come_closer_too(tiny_sam):
    path = f"{FIRST}.cross_attn_token_to_image"
    unit = unit_of(tiny_sam, path, count=8)
    seen, unseen = unit.inputs[:4], unit.inputs[4:]
    changed = replace(compensated(replace(unit, inputs=seen)), inputs=unseen)
    unit = replace(unit, inputs=unseen)
    target = attended(unit, path)
    assert quantization_error(changed, target, path) < quantization_error(unit, target, path)


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        (ONLY_PRODUCTS, {}),
        (ONLY_PRODUCTS, {"solver": "sylvester"}),
        (ONLY_PRODUCTS, {"weighted": True}),
        ((), {"asymmetric": True}),
        ((), {"asymmetric": True, "weighted": True}),
    ],
)
def test_the_error_of_what_leaves_the_attention_never_rises(tiny_sam, rules, options):
    """When one projection after the other is let change: measured, not as noted."""
    rises = []
    for path in (f"{FIRST}.self_attn", f"{SECOND}.cross_attn_image_to_token", FINAL):
        unit = unit_of(tiny_sam, path, rules=rules)
        target = attended(unit, path)
        errors = [quantization_error(unit, target, path)]
        for projections, sweeps in (("q", 1), ("qk", 1), ("qk", 2), ("qkv", 2)):
            changed = compensated(unit, projections=projections, sweeps=sweeps, **options)
            errors.append(quantization_error(changed, target, path))
        rises += [after / before - 1 for before, after in pairwise(errors)]
    assert max(rises) < 1e-3
    assert min(rises) < -0.05


@torch.no_grad()
def test_weighted_equations_mind_what_softmax_passes_on(tiny_sam):
    """Their solution has less of the weighted error, and more of the plain one."""
    unit = replace(unit_of(tiny_sam, FINAL), later=NEAREST)
    (site,) = (site for site, _ in unit.sites if site.path == FINAL)
    attention = CompensatedAttention(unit, site, 4, False, 2.0)
    errors = {}
    for weighted in (False, True):
        equation = score_equation(attention, "query", centre=False, weighted=weighted)
        change = solve_exact(equation, equation.penalty(1e-3, 32)).change
        errors[weighted] = [0.0, 0.0]
        for ((inputs, _),), image in zip(attention, projected(unit, FINAL), strict=True):
            (rows, query), (_, key) = image["query"], image["key"]
            moved = query + with_bias(rows) @ change
            error = query @ key.mT - moved @ attention.now.quantized("key", inputs).double().mT
            own, others = score_weights(attention.first.exact.probabilities(inputs), "query")
            errors[weighted][0] += float(error.square().sum())
            errors[weighted][1] += float((error.square() * own * others.mT).sum())
    assert errors[False][0] < errors[True][0]
    assert errors[True][1] < errors[False][1]


def test_weights_of_scores_have_the_sums_of_softmaxs_derivative():
    probabilities = torch.softmax(torch.randn(2, 3, 4, 5, dtype=torch.float64), -1)
    squared = (probabilities * (1 - probabilities)).square()
    for operand, sums in (("query", squared), ("key", squared.mT)):
        own, others = score_weights(probabilities, operand)
        products = own * others.mT
        torch.testing.assert_close(products.sum(2), sums.sum(2))
        torch.testing.assert_close(products.sum((1, 3)), sums.sum((1, 3)))


@pytest.fixture
def swept(tiny_sam):
    """An attention after one sweep of its query and key projections; per image, projections
    then and now.

    The last is a function that rounds an operand as the changed attention does.
    """
    path = f"{SECOND}.cross_attn_token_to_image"
    unit = unit_of(tiny_sam, path)
    (site,) = (site for site, _ in unit.sites if site.path == path)
    unit = replace(unit, later=NEAREST)
    changed = replace(unit, model=copy.deepcopy(unit.model), statistics=dict(unit.statistics))
    with torch.no_grad():
        attention = CompensatedAttention(unit, site, 4, False, 2.0)
        for projection in ("query", "key"):
            equation = score_equation(attention, projection, centre=True, weighted=False)
            change = solve_exact(equation, equation.penalty(1e-2, 32)).change
            assert attention.try_(projection, change)["accepted"]
    attention.write_(changed)

    def rounded(operand, values):
        statistics = changed.statistics[path, operand]
        return activation_grid(statistics, "mse", 4, torch.device("cpu"))(values.float()).double()

    images = list(zip(projected(unit, path), projected(changed, path), strict=True))
    return attention, images, rounded


def with_bias(rows):
    return torch.nn.functional.pad(rows, (0, 1), value=BIAS_COLUMN)


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
@pytest.mark.parametrize("operand", ["query", "key"])
def test_a_second_sweep_still_aims_at_the_first_scores(swept, operand):
    """In C = - sum X' L (R^ - R)' R^ only R^ is of the changed weights."""
    attention, images, rounded = swept
    other = "key" if operand == "query" else "query"
    expected = 0.0
    for first, now in images:
        (rows, left), (_, right) = first[operand], first[other]
        right_rounded = rounded(other, now[other][1])
        if operand == "key":
            rows, left = (each - each.mean(-2, True) for each in (rows, left))
        else:
            rows = with_bias(rows)
            right, right_rounded = (each - each.mean(-2, True) for each in (right, right_rounded))
        expected -= ((rows.mT @ left) @ ((right_rounded - right).mT @ right_rounded)).sum(0)
    equation = score_equation(attention, operand, centre=True, weighted=False)
    assert relative_error(equation.right_side, expected) < 1e-3


@torch.no_grad()
def test_the_value_leg_aims_at_what_the_first_attention_returns(swept):
    """In C = sum (A^ Y)' (A V - A^ V) only A^ is of the changed weights."""
    attention, images, rounded = swept
    expected = 0.0
    for first, now in images:
        query, key, value = (first[operand][1] for operand in PROJECTIONS)
        changed_query, changed_key = (rounded(o, now[o][1]) for o in ("query", "key"))
        exact, changed = (
            torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1)
            for q, k in ((query, key), (changed_query, changed_key))
        )
        changed = rounded("probabilities", changed)
        rows = changed @ with_bias(first["value"][0])
        expected += (rows.mT @ (exact @ value - changed @ value)).sum(0)
    assert relative_error(value_equation(attention).right_side, expected) < 1e-3


def test_the_exact_solver_lowers_the_scores_error_most(tiny_sam):
    path = f"{SECOND}.self_attn"
    unit = unit_of(tiny_sam, path)
    after = {}
    for solver in SOLVERS:
        changed = compensated(unit, solver=solver, projections="q")
        assert changed.notes[0]["accepted"]
        after[solver] = score_error(quantized(changed), scores(unit, path), path)
    assert after["exact"] < after["pooled"] < after["sylvester"]


def test_a_change_that_does_not_help_is_not_made(tiny_sam, monkeypatch):
    monkeypatch.setattr(
        "carsam.methods.steps.mac.compensated_attention.CompensatedAttention._error",
        lambda self, version: 1.0,
    )
    unit = unit_of(tiny_sam, FINAL)
    changed = compensated(unit)
    assert not any(note["accepted"] for note in changed.notes)
    last_tried = [note["strength"] for note in changed.notes]
    assert last_tried == pytest.approx([10.0] * 3)  # after 0.01, 0.1 and 1
    for operand, before in weights(unit, FINAL).items():
        assert torch.equal(weights(changed, FINAL)[operand], before)
    assert changed.statistics == unit.statistics


def test_weights_too_large_to_store_are_not_taken(tiny_sam, monkeypatch):
    def huge(equation, penalty):
        return Solution(torch.full_like(equation.right_side, 1e30), 0.0)

    monkeypatch.setitem(SOLVERS, "exact", huge)
    unit = unit_of(tiny_sam, FINAL)
    changed = compensated(unit, projections="q")
    assert [(note["after"], note["accepted"]) for note in changed.notes] == [(None, False)]
    for operand, before in weights(unit, FINAL).items():
        assert torch.equal(weights(changed, FINAL)[operand], before)


@pytest.mark.parametrize(("letter", "projection"), [("q", "query"), ("k", "key"), ("v", "value")])
def test_only_the_projections_asked_for_change(tiny_sam, letter, projection):
    unit = unit_of(tiny_sam, FINAL)
    changed = compensated(unit, projections=letter)
    assert [note["projection"] for note in changed.notes] == [projection]
    for operand, before in weights(unit, FINAL).items():
        assert torch.equal(weights(changed, FINAL)[operand], before) == (operand != projection)


def test_forgotten_inputs_give_the_same_weights(tiny_sam):
    unit = unit_of(tiny_sam, FINAL)
    remembered, recomputed = compensated(unit), compensated(unit, memory=0.0)
    for operand, expected in weights(remembered, FINAL).items():
        assert torch.equal(weights(recomputed, FINAL)[operand], expected)


def test_both_attentions_of_a_joint_unit_are_compensated_as_if_alone(tiny_sam):
    path = f"{FIRST}.cross_attn_image_to_token"
    joint = compensated(unit_of(tiny_sam, path, units=("cross+cross",)))
    alone = compensated(unit_of(tiny_sam, path))
    assert joint.notes[3:] == alone.notes
    assert {note["site"] for note in joint.notes[:3]} == {f"{FIRST}.cross_attn_token_to_image"}


@pytest.mark.parametrize("rules", [ONLY_PRODUCTS, ()])
def test_what_stays_in_half_precision_fits_it(tiny_sam, rules):
    attention = compensated(unit_of(tiny_sam, FINAL, rules=rules)).model.get_submodule(FINAL)
    for name in PROJECTIONS.values():
        layer = getattr(attention, name).layer
        assert torch.equal(layer.bias.half().float(), layer.bias)
        if rules:  # the weights stay float, too
            assert torch.equal(layer.weight.half().float(), layer.weight)


def test_projections_without_a_bias_are_compensated(tiny_sam):
    for name in PROJECTIONS.values():
        getattr(tiny_sam.mask_decoder.transformer.final_attn_token_to_image, name).bias = None
    notes = compensated(unit_of(tiny_sam, FINAL)).notes
    assert any(note["accepted"] for note in notes)


def test_scores_count_with_their_constants_when_not_centred(tiny_sam):
    unit = unit_of(tiny_sam, FINAL)
    centred, whole = (compensated(unit, centre=centre).notes for centre in (True, False))
    assert any(note["accepted"] for note in whole)
    assert whole[0]["before"] == centred[0]["before"]
    assert whole[0]["after"] != centred[0]["after"]


def test_one_image_is_enough(tiny_sam):
    assert any(note["accepted"] for note in compensated(unit_of(tiny_sam, FINAL, count=1)).notes)


@pytest.mark.parametrize(
    "rules", [("*=float", "encoder.*=w4a4"), ("decoder.*=w4a32", "*_proj=w4a4")]
)
def test_encoder_and_float_attentions_are_left_alone(tiny_sam, rules):
    for unit in float_units(tiny_sam, count=1, rules=rules):
        assert compensated(unit).notes == []


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"projections": "qx"}, "letters of qkv"),
        ({"projections": ""}, "letters of qkv"),
        ({"solver": "lu"}, "exact, pooled, sylvester"),
        ({"strength": 0.0}, "positive"),
        ({"strength": float("nan")}, "positive"),
        ({"sweeps": 0}, "sweeps is 0"),
        ({"strengths": 0}, "strengths is 0"),
    ],
)
def test_wrong_parameters_are_refused(parameters, said):
    with pytest.raises(UserError, match=said):
        Compensate(**parameters)


RECIPE = Recipe("test", (Step("compensate"), Step("round-to-nearest")))


def test_a_whole_model_is_strict_and_notes_every_leg(tiny_sam, image_folder, photo):
    model = quantize(tiny_sam, image_folder, RECIPE, count=2)
    assert_strict(model, [photo])
    notes = model.provenance["notes"]
    assert [note["site"] for note in notes[::3]] == ATTENTIONS
    assert any(note["accepted"] for note in notes)
    json.dumps(notes)  # they go into the manifest


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("operand", PROJECTIONS)
@torch.no_grad()
def test_operands_without_variance_are_no_error(tiny_sam, operand, asymmetric):
    """Of one head all rows are alike, and of a second one all are zero."""
    attention = tiny_sam.mask_decoder.transformer.final_attn_token_to_image
    layer = getattr(attention, PROJECTIONS[operand])
    layer.weight[:8] = 0
    layer.bias[4:8] = 0
    unit = unit_of(tiny_sam, FINAL, rules=())
    target = attended(unit, FINAL)
    changed = compensated(unit, asymmetric=asymmetric)
    for weight in weights(changed, FINAL).values():
        assert bool(weight.isfinite().all())
    before, after = (quantization_error(each, target, FINAL) for each in (unit, changed))
    assert after <= before * (1 + 1e-3)


@torch.no_grad()
def test_inputs_without_variance_are_no_error(tiny_sam):
    """All tokens that enter the last attention are zero."""
    block = tiny_sam.mask_decoder.transformer.layers[1]
    for norm in (block.layer_norm3, block.layer_norm4):
        norm.weight.zero_()
        norm.bias.zero_()
    changed = compensated(unit_of(tiny_sam, FINAL))
    for weight in weights(changed, FINAL).values():
        assert bool(weight.isfinite().all())
