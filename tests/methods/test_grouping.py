import torch

from carsam.grids.grouped import GroupedUniformGrid
from carsam.methods.steps.ranges.channel_grouping import (
    ChannelGrouping,
    channel_ranges,
    nearest_groups,
)
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.simulation import slots

PATH = "vision_encoder.layers.0.mlp"


def test_points_far_apart_are_grouped_apart():
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(60) % 3
    points = torch.tensor([[-1.0, 1], [-9, 9], [-1, 30]])[true]
    points = points + 0.1 * torch.randn(60, 2, generator=generator)
    group, centres = nearest_groups(points, 3)
    assert all(len(group[true == number].unique()) == 1 for number in range(3))
    torch.testing.assert_close(centres[group], points, atol=0.5, rtol=0)


def test_equal_points_leave_groups_empty():
    group, centres = nearest_groups(torch.ones(5, 2), 3)
    assert bool(torch.isfinite(centres).all())
    assert len(group.unique()) == 1


@torch.no_grad()
def test_channels_of_different_size_come_out_better(make_unit):
    errors = []
    for steps in ((), (ChannelGrouping(),)):
        unit = make_unit(PATH)
        norm = unit.model.vision_encoder.layers[0].layer_norm2
        norm.weight.mul_(torch.where(torch.arange(32) % 2 == 0, 20.0, 1.0))
        site = unit.sites[0][0]
        ranges = channel_ranges(unit, [site])[site]
        unit.statistics[site.path, "input"].lows = [float(ranges.min())] * 3
        unit.statistics[site.path, "input"].highs = [float(ranges.max())] * 3
        RoundToNearest("mse", "averaged-minmax", False).run_(unit)
        for step in steps:
            step.run_(unit)
        grid = slots.quantizer(unit.model, site, "input")
        values = norm(torch.randn(500, 32))[:, 1::2].repeat_interleave(2, 1)
        small = (grid(values) - values)[:, 1::2]
        errors.append(float(small.square().sum()))
    assert isinstance(grid, GroupedUniformGrid)
    assert errors[1] < 0.1 * errors[0]
