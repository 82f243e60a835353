import itertools

import numpy as np
import pytest

from carsam.calibration.quantize import quantize
from carsam.diagnosis.damage import Case, diagnose
from carsam.diagnosis.mixed import MEASURES, UnitCost, choose_bits, rules, unit_costs
from carsam.diagnosis.switches import SwitchedModel
from carsam.images.prompts import Prompts
from carsam.methods.recipe import Rule
from carsam.methods.registry import make_recipe
from carsam.methods.units import plan_units
from carsam.progress import Silent

UNITS = (
    UnitCost(("a*",), 0.5, 4, 100, 2000),
    UnitCost(("b*",), 0.01, 4, 100, 500),
    UnitCost(("c*",), 0.05, 4, 300, 100),
)


def harm(bits):
    return sum(u.harm * 4.0 ** (u.bits - b) for u, b in zip(UNITS, bits, strict=True))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("mean_bits", [2, 3.3, 4, 5.5, 8])
def test_no_choice_within_the_budget_is_much_better(measure, mean_bits):
    cost = MEASURES[measure]
    budget = sum(cost(u, 1) for u in UNITS) * mean_bits ** (1 if measure == "size" else 2)
    choice = choose_bits(UNITS, mean_bits, measure)

    def spent(bits):
        return sum(cost(u, b) for u, b in zip(UNITS, bits, strict=True))

    assert spent(choice) <= budget
    possible = [b for b in itertools.product(range(2, 9), repeat=3) if spent(b) <= budget]
    assert harm(choice) <= 1.5 * min(map(harm, possible))


def test_the_harmful_unit_gets_more_bits():
    first, second, third = choose_bits(UNITS, 4, "size")
    assert first > second
    assert first > third


@pytest.mark.parametrize(("mean", "measure"), [(1.5, "size"), (9, "size"), (4, "time")])
def test_budgets_that_make_no_sense_are_refused(mean, measure):
    with pytest.raises(ValueError, match="expected"):
        choose_bits(UNITS, mean, measure)


def test_a_model_is_quantized_by_the_rules(tiny_sam, image_folder):
    quantized = quantize(tiny_sam, image_folder, "rtn", bits="w3a3", count=1)
    model = SwitchedModel(quantized, tiny_sam)
    recipe = make_recipe("rtn", "w3a3")
    plans = plan_units(model.family.stages(model.module), model.family.sites(model.module), recipe)
    pixels = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    case = Case(pixels, Prompts(boxes=np.array([[4, 6, 40, 50]], np.float32)))
    costs = unit_costs(model, plans, diagnose(model, plans, [case], Silent()), case)
    layers = tiny_sam.vision_encoder.layers[1].mlp
    weights = [layers.lin1.weight, layers.lin2.weight]
    (mlp,) = (cost for cost in costs if cost.patterns == ("vision_encoder.layers.1.mlp*",))
    assert mlp.weights == sum(p.numel() for p in weights)
    assert mlp.multiplications == 64 * mlp.weights  # 8 x 8 tokens
    chosen = choose_bits(costs, 4.0, "size")
    found = [Rule.parse(rule) for rule in rules(costs, chosen)]
    for plan, bits in zip([p for p in plans if p.sites], chosen, strict=True):
        for site, _ in plan.sites:
            (fitting,) = [rule for rule in found if rule.fits(site.path, site.kind)]
            assert str(fitting.bits) == f"w{bits}a{bits}"
