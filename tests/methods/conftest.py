"""Units of a tiny SAM for steps that are tested alone."""

from collections.abc import Callable
from functools import partial

import pytest


@pytest.fixture
def make_unit(tiny_sam, make_unit_of) -> Callable:
    """Function (stage paths, bits, images) -> a float unit of `tiny_sam` with its statistics."""
    return partial(make_unit_of, tiny_sam)


@pytest.fixture
def make_unit_of() -> Callable:
    """Function (model, stage paths, bits, images or states) -> a float unit with its statistics."""
    import torch

    from carsam.calibration.observe import run_observed
    from carsam.families import FAMILIES
    from carsam.methods.base import Unit
    from carsam.methods.recipe import Bits, Recipe
    from carsam.methods.units import plan_units
    from carsam.progress import Silent
    from carsam.simulation.model import prepare

    @torch.no_grad()
    def make_unit_of(
        source, *paths: str, bits: str = "w4a4", images: int = 3, merges=(), states=None
    ) -> Unit:
        family = FAMILIES[source.config.model_type]
        side = family.framing(source.config).side
        model = prepare(family, source)
        recipe = Recipe("test", (), tuple(merges), Bits.parse(bits))
        generator = torch.Generator().manual_seed(0)
        states = states or tuple(
            family.start(
                torch.randn(1, 3, side, side, generator=generator),
                torch.tensor([[[4.0, 5, 50, 40], [10, 20, 30, 60]]]),
            )
            for _ in range(images)
        )
        for plan in plan_units(family.stages(model), family.sites(model), recipe):
            targets, statistics = run_observed(model, plan, states, lambda *_: True, Silent())
            if {stage.path for stage in plan.stages} == set(paths):
                return Unit(model, plan, states, states, targets, statistics)
            states = targets
        raise ValueError(f"no unit of {paths}")

    return make_unit_of


@pytest.fixture
def products() -> Callable:
    """Function (unit, site) -> of each image the probabilities and values that are multiplied."""
    from carsam.methods.inspecting.operands import listening, run
    from carsam.simulation import slots

    def products(unit, site):
        probabilities, values = [], []
        product = slots.multiplier(unit.model, site)
        handle = product.register_forward_pre_hook(lambda _, inputs: values.append(inputs[2]))
        with listening(unit, {(site, "probabilities"): probabilities.append}):
            run(unit, unit.inputs)
        handle.remove()
        return list(zip(probabilities, values, strict=True))

    return products
