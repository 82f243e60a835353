"""Facts that hold for every kind of grid."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carsam.calibration.quantize import quantize
from carsam.engines.torch_engine import TorchEngine
from carsam.evaluation.strict import StrictError, assert_strict
from carsam.formats.grid_layouts import LAYOUTS, site_tensors
from carsam.grids.base import UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.grouped import GroupedUniformGrid
from carsam.grids.registry import GRIDS, describe_grid, load_grid, store_grid
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.grids.tables import Log1pGrid, LogGrid, LogUniformGrid, TwinUniformGrid
from carsam.images.prompts import Prompts
from carsam.simulation import slots
from carsam.simulation.model import from_checkpoint
from carsam.simulation.trainable import LearnedGrid

CHANNELS = 6
bits = st.integers(2, 8)
scales = st.floats(2**-12, 2**6, width=32)


@st.composite
def grids(draw):
    b, scale = draw(bits), torch.tensor([draw(scales)])
    name = draw(st.sampled_from(sorted(GRIDS)))
    if name == "uniform":
        return UniformGrid(scale, torch.tensor([draw(st.integers(0, 2**b - 1))]), b)
    if name == "codebook":
        codes = sorted(draw(st.lists(st.integers(0, 255), min_size=2**b, max_size=2**b)))
        return CodebookGrid(
            scale, torch.tensor([draw(st.sampled_from(codes))]), torch.tensor(codes), b
        )
    if name == "log2":
        return LogGrid(scale, draw(st.sampled_from([1, 2, 4])), b)
    if name == "log1p":
        return Log1pGrid(scale, torch.tensor([draw(st.floats(2**-6, 2**12, width=32))]), b)
    if name == "twin-uniform":
        return TwinUniformGrid(scale, draw(st.integers(0, 12)), draw(st.integers(0, 1)), b)
    if name == "log-uniform":
        step, offset = draw(scales), -draw(scales)
        both = torch.cat([scale, torch.tensor([step])])
        return LogUniformGrid(both, torch.tensor([offset]), draw(st.integers(2, 2**b - 1)), b)
    if name == "row-maximum":
        grid = RowMaximumGrid.curved(draw(st.sampled_from([0.0, 3.0, 2.0**14])), b)
        return grid.scaled(scale)
    return GroupedUniformGrid(
        torch.cat([scale, 2 * scale]),
        torch.tensor([0, 2**b - 1]),
        torch.tensor([0, 1, 0, 0, 1, 1]),
        b,
    )


def values_around(grid, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.exp2(torch.empty(300, CHANNELS).uniform_(-20, 8, generator=generator))
    return spread * torch.randn(300, CHANNELS, generator=generator) * grid.scale.max()


def test_every_grid_has_a_layout():
    assert GRIDS.keys() == LAYOUTS.keys()


@given(grids(), st.integers(0, 99))
def test_rounding_twice_changes_nothing(grid, seed):
    once = grid(values_around(grid, seed))
    assert torch.equal(grid(once), once)


@given(grids(), st.integers(0, 99))
def test_no_more_values_than_codes(grid, seed):
    distinct, on_grid = grid.check(grid(values_around(grid, seed)))
    assert on_grid
    assert distinct <= 2**grid.bits


@given(grids(), st.integers(0, 99))
def test_codes_name_the_values(grid, seed):
    values = values_around(grid, seed)
    codes = grid.codes(values)
    assert codes.min() >= 0
    assert codes.max() <= grid.levels
    assert torch.equal(grid.values(codes), grid(values))


@given(grids(), st.integers(0, 99))
def test_training_starts_at_the_grid_and_ends_on_one(grid, seed):
    values = values_around(grid, seed).requires_grad_()
    learned = LearnedGrid(grid, 1.0, torch.Generator())
    torch.testing.assert_close(learned(values).detach(), grid(values.detach()))
    learned(values).square().sum().backward()
    assert learned.factor.grad is not None
    assert bool(torch.isfinite(learned.factor.grad).all() & torch.isfinite(values.grad).all())
    learned.factor.data.mul_(0.9)
    torch.testing.assert_close(learned.fixed().scale, grid.scale * 0.9)


@given(grids())
def test_a_stored_grid_comes_back(grid):
    description = describe_grid(grid)
    tensors = store_grid("p.input", grid)
    site = {"weight": None, "operands": {"input": description}}
    expected = {name: (dtype, shape) for name, dtype, shape in site_tensors("p", site)}
    assert expected == {name: (t.dtype, t.shape) for name, t in tensors.items()}
    loaded = load_grid("p.input", description, tensors, rows=False)
    values = values_around(grid)
    assert torch.equal(loaded(values), grid(values))


def test_a_grid_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"Grid fancy \(of p.input\) is not known"):
        load_grid("p.input", {"grid": "fancy", "bits": 4}, {}, rows=False)


def test_a_setting_that_is_missing_is_named():
    with pytest.raises(ValueError, match="lacks granularity"):
        load_grid("p.input", {"grid": "log2", "bits": 4}, {}, rows=False)


def test_bits_beyond_a_byte_are_refused():
    with pytest.raises(ValueError, match="has 99999999 bits; expected 1 to 8"):
        list(site_tensors("p", {"weight": None, "operands": {"probabilities": HUGE}}))


HUGE = {"grid": "row-maximum", "bits": 99999999}
LINEAR = "vision_encoder.layers.0.mlp.lin2"
ATTENTION = "mask_decoder.transformer.layers.0.cross_attn_token_to_image"


@pytest.fixture
def mixed_model(tiny_sam, image_folder):
    """A quantized model with a logarithmic grid for probabilities and groups of channels."""
    model = quantize(tiny_sam, image_folder, "rtn", count=1)
    sites = {site.path: site for site in model.sites}
    probabilities = LogGrid(torch.tensor([0.9]), 2, 4)
    slots.set_quantizer_(model.module, sites[ATTENTION], "probabilities", probabilities)
    scale, zero_point = torch.tensor([0.2, 0.1]), torch.tensor([3, 5])
    groups = GroupedUniformGrid(scale, zero_point, torch.arange(64) % 2, 4)
    slots.set_quantizer_(model.module, sites[LINEAR], "input", groups)
    return model


def test_other_grids_pass_the_strict_check(mixed_model, photo):
    assert_strict(mixed_model, [photo])


def test_a_channel_off_its_groups_grid_is_found(mixed_model, photo):
    grid = mixed_model.module.get_submodule(LINEAR).input_quantizer
    grid.codes = lambda values: values / grid.scale[grid.group]  # not rounded
    with pytest.raises(StrictError, match=f"{LINEAR}: input enters its product with"):
        assert_strict(mixed_model, [photo])


def test_other_grids_survive_the_checkpoint(mixed_model):
    loaded = from_checkpoint(mixed_model.to_checkpoint())
    pixels = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    boxes = Prompts(boxes=np.array([[4, 5, 50, 40]], np.float32))
    masks = []
    for model in (mixed_model, loaded):
        engine = TorchEngine(model.family, model.module, "simulated")
        masks.append(engine.decode(engine.encode(pixels), boxes, multimask_output=True)[0])
    np.testing.assert_array_equal(*masks)
