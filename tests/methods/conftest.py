"""Units of a tiny SAM for steps that are tested alone."""

from collections.abc import Callable

import pytest


@pytest.fixture
def make_unit(tiny_sam) -> Callable:
    """Function (stage paths, bits, images) -> a float unit with its statistics."""
    import torch

    from carsam.calibration.observe import run_observed
    from carsam.families import FAMILIES
    from carsam.methods.base import Unit
    from carsam.methods.recipe import Bits, Recipe
    from carsam.methods.units import plan_units
    from carsam.progress import Silent
    from carsam.simulation.model import prepare

    @torch.no_grad()
    def make_unit(*paths: str, bits: str = "w4a4", images: int = 3, merges=()) -> Unit:
        family = FAMILIES["sam"]
        model = prepare(family, tiny_sam)
        recipe = Recipe("test", (), tuple(merges), Bits.parse(bits))
        generator = torch.Generator().manual_seed(0)
        states = tuple(
            family.start(
                torch.randn(1, 3, 64, 64, generator=generator),
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

    return make_unit
