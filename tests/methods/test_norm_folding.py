import pytest
import torch

from carsam.methods.steps.folding.fold_norms import FoldNorms
from carsam.methods.steps.ranges.channel_grouping import channel_ranges
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest

PATHS = [
    "vision_encoder.layers.0.attn",  # windows of 3 on 8 x 8 tokens: padded
    "vision_encoder.layers.1.attn",
    "vision_encoder.layers.0.mlp",
    "vision_encoder.neck",  # a convolution that pads with zeros
]


@torch.no_grad()
def spread_channels_(unit):
    """Ranges and centres of the norm's channels that differ tenfold."""
    norm = unit.model.get_submodule(unit.plan.stages[0].norm.norm)
    generator = torch.Generator().manual_seed(0)
    norm.weight.mul_(torch.exp2(3 * torch.rand(32, generator=generator)))
    norm.bias.add_(3 * torch.randn(32, generator=generator))
    norm.weight.copy_(norm.weight.half().float())
    norm.bias.copy_(norm.bias.half().float())


@torch.no_grad()
@pytest.mark.parametrize("path", PATHS)
def test_the_float_output_stays(make_unit, path):
    unit = make_unit(path)
    spread_channels_(unit)
    before = unit.plan.run(unit.model, unit.inputs[0])["hidden"]
    FoldNorms().run_(unit)
    after = unit.plan.run(unit.model, unit.inputs[0])["hidden"]
    size = before.abs().mean()
    # The changed biases, around 10, are kept in fp16.
    torch.testing.assert_close(after / size, before / size, atol=2e-2, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("path", PATHS[1:3])
def test_all_channels_get_one_range(make_unit, path):
    unit = make_unit(path)
    spread_channels_(unit)
    site = unit.sites[0][0]
    spreads = []
    for step in (None, FoldNorms()):
        if step:
            step.run_(unit)
        ranges = channel_ranges(unit, [site])[site]
        spreads.append(ranges.std(0) / (ranges[:, 1] - ranges[:, 0]).mean())
    assert (spreads[1] < 0.2 * spreads[0]).all()


@torch.no_grad()
def test_inputs_of_unlike_channels_round_better(make_unit):
    errors = []
    for steps in ((), (FoldNorms(),)):
        unit = make_unit(PATHS[2], bits="w32a4")
        spread_channels_(unit)
        target = [unit.plan.run(unit.model, state)["hidden"] for state in unit.inputs]
        if not steps:
            from carsam.methods.inspecting.operands import observe_again_

            observe_again_(unit, [(unit.sites[0][0], "input")])
        for step in (*steps, RoundToNearest("mse", "minmax")):
            step.run_(unit)
        outputs = [unit.plan.run(unit.model, state)["hidden"] for state in unit.inputs]
        difference = torch.stack(outputs) - torch.stack(target)
        errors.append(float(difference.square().sum()))
    assert errors[1] < errors[0]


@torch.no_grad()
def test_channels_without_a_range_do_no_harm(make_unit):
    unit = make_unit(PATHS[2])
    norm = unit.model.get_submodule(unit.plan.stages[0].norm.norm)
    norm.weight[3] = norm.bias[3] = 0
    FoldNorms().run_(unit)
    assert bool(torch.isfinite(norm.weight).all() & torch.isfinite(norm.bias).all())
