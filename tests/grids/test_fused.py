"""The compiled roundings of training against the torch operations that they stand for."""

import pytest
import torch

from carsam.grids import base, draws
from carsam.grids.base import UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.draws import Draw, mixed
from carsam.grids.grouped import GroupedUniformGrid
from carsam.grids.kernels import training
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.grids.tables import Log1pGrid, LogGrid, LogUniformGrid, TwinUniformGrid
from carsam.runtime import kernels
from carsam.simulation import trainable
from carsam.simulation.layers import QuantizedLayer
from carsam.simulation.trainable import LearnedRows, SoftRounding

needs_extension = pytest.mark.skipif(training is None, reason="the extension is not built")
SETS = [] if training is None else training.usable_sets()
DRAWS = [None, Draw(0x123456789ABCDEF0, 0.5), Draw(7, 0.0), Draw(2**63 - 1, 0.9)]
SCALE = torch.tensor([0.31])
GRIDS = {
    "uniform": UniformGrid(SCALE, torch.tensor([5.0]), 4),
    "uniform of 8 bits": UniformGrid(SCALE / 16, torch.tensor([100.0]), 8),
    "grouped": GroupedUniformGrid(
        torch.tensor([0.1, 0.3, 0.7]), torch.tensor([3.0, 0.0, 9.0]), torch.arange(37) % 3, 4
    ),
    "log2": LogGrid(SCALE.clone(), 1, 4),
    "log-sqrt2": LogGrid(SCALE.clone(), 2, 4),
    "log2 of 8 bits": LogGrid(SCALE.clone(), 16, 8),
    "log1p": Log1pGrid(SCALE.clone(), torch.tensor([30.0]), 5),
    "twin": TwinUniformGrid(SCALE / 8, 3, 1, 4),
    "log-uniform": LogUniformGrid(torch.tensor([0.2, 0.1]), torch.tensor([-0.1]), 6, 4),
    "codebook": CodebookGrid(SCALE / 16, torch.tensor([90.0]), torch.arange(16) ** 2 + 9, 4),
    "row maximum": RowMaximumGrid.curved(5.0, 4),
    "row maximum of 8 bits": RowMaximumGrid.curved(5.0, 8),
}


@pytest.fixture(params=SETS)
def instruction_set(request):
    before = kernels.instruction_set()
    kernels.use_instruction_set(request.param)
    yield
    kernels.use_instruction_set(before)


@pytest.fixture
def in_steps(monkeypatch):
    """Switches the kernels off."""

    def switch():
        for module in (base, draws, trainable):
            monkeypatch.setattr(module, "takes", lambda values: False)

    return switch


def rounded(grid, values, draw):
    """What `soft` returns, and the gradients of values and factor."""
    values, factor = values.clone().requires_grad_(), torch.full_like(grid.scale, 0.93)
    factor.requires_grad_()
    result = grid.soft(values, factor, draw)
    weights = torch.linspace(-1, 2, result.numel()).view(result.shape)
    (result * weights).sum().backward()
    return result.detach(), values.grad, factor.grad


def close(found, expected):
    """Equal to a millionth of the largest."""
    return float((found - expected).abs().max()) <= 1e-6 * float(expected.abs().max())


@needs_extension
@pytest.mark.parametrize("draw", DRAWS, ids=str)
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("threads", [1, 3])
def test_both_round_alike(name, draw, threads, instruction_set, in_steps):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 111, 37, generator=generator)
    if "row" in name or "log" in name:
        values = values.abs() / 3
    kernels.set_threads(threads)
    found = rounded(GRIDS[name], values, draw)
    kernels.set_threads(1)
    in_steps()
    expected = rounded(GRIDS[name], values, draw)
    assert torch.equal(found[0], expected[0])
    assert close(found[1], expected[1])
    # 12000 terms of up to 1 of both signs; torch adds up those of a table in float32, one by one.
    torch.testing.assert_close(found[2], expected[2], rtol=3e-6, atol=1e-7 * values.numel())


@needs_extension
@pytest.mark.parametrize("name", sorted(GRIDS.keys() - {"grouped"}))
def test_middles_and_ends_of_the_grids_round_alike(name, in_steps):
    grid = GRIDS[name]
    values = grid.scaled(torch.full_like(grid.scale, 0.93))(torch.linspace(-9, 9, 100_000)).unique()
    steps = torch.cat([values, (values[1:] + values[:-1]) / 2, torch.tensor([0.0, 1e30, -1e30])])
    neighbours = [torch.nextafter(steps, steps + sign) for sign in (1, -1)]
    values = torch.cat([steps, *neighbours])
    found = rounded(grid, values, None)
    in_steps()
    expected = rounded(grid, values, None)
    assert torch.equal(found[0], expected[0])
    assert close(found[1], expected[1])


@needs_extension
def test_values_of_any_layout_round_alike(in_steps):
    values, draw = torch.randn(4, 6, 5, 3).permute(0, 3, 1, 2), Draw(3, 0.5)
    found = rounded(GRIDS["uniform"], values, draw)
    in_steps()
    expected = rounded(GRIDS["uniform"], values, draw)
    assert torch.equal(found[0], expected[0])
    assert close(found[1], expected[1])


@needs_extension
def test_nan_is_not_rounded_away():
    values = torch.tensor([float("nan"), 1.0])
    assert GRIDS["uniform"].soft(values, torch.ones(1)).isnan().tolist() == [True, False]


@needs_extension
@pytest.mark.parametrize("kind", ["linear", "transposed"])
def test_rows_of_weights_round_alike(kind, instruction_set, in_steps):
    torch.manual_seed(0)
    if kind == "linear":
        layer, rows = torch.nn.Linear(37, 11), 11
    else:
        layer, rows = torch.nn.ConvTranspose2d(5, 7, 2, 2), 7
    scale = torch.rand(rows, 1) / 20 + 0.02
    wrapped = QuantizedLayer(layer)
    wrapped.weight_grid = UniformGrid(scale, torch.randint(16, (rows, 1)).float(), 4)
    wrapped.round_weight_()
    learned, soft = (kind(layer, wrapped.weight_grid) for kind in (LearnedRows, SoftRounding))
    learned.codes.data += torch.randn_like(learned.codes)
    learned.factor.data.uniform_(0.5, 1.5)
    soft.alpha.data = 4 * torch.randn_like(soft.alpha)
    weights = torch.randn_like(layer.weight)

    def results():
        found = []
        for module, trained in ((learned, ("codes", "factor")), (soft, ("alpha",))):
            module.zero_grad()
            weight = module(layer.weight)
            (weight * weights).sum().backward()
            found += [weight.detach(), *(getattr(module, name).grad for name in trained)]
        return found

    found = results()
    in_steps()
    for one, other in zip(found, results(), strict=True):
        assert close(one, other)
    assert torch.equal(found[0], learned(layer.weight))
    assert torch.equal(found[3], soft(layer.weight))


@needs_extension
@pytest.mark.parametrize("draw", DRAWS, ids=str)
def test_both_mix_alike(draw, instruction_set, in_steps):
    first, second = torch.randn(1001), torch.randn(1001)
    found = mixed(first, second, draw)
    in_steps()
    assert torch.equal(found, mixed(first, second, draw))


def test_arrays_that_do_not_fit_are_refused():
    if training is None:
        pytest.skip("the extension is not built")
    values, scale = torch.zeros(2, 3).numpy(), torch.ones(1).numpy()
    with pytest.raises(ValueError, match="as many elements"):
        training.round_uniform(values, scale, scale, 15, None, torch.zeros(5).numpy())
    with pytest.raises(ValueError, match="every column"):
        training.round_uniform(values, scale.repeat(2), scale.repeat(2), 15, None, values)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_draws_are_true_as_often_as_asked(probability):
    draw = Draw.of(probability, torch.Generator().manual_seed(0))
    if draw is None:
        assert probability == 1.0
        return
    mask = draw.mask(torch.empty(50001)).float()
    assert float(mask.mean()) == pytest.approx(probability, abs=0.01)
    assert abs(float(mask[:25000].mean() - mask[25000:].mean())) < 0.02


def test_draws_are_independent():
    generator = torch.Generator().manual_seed(0)
    like = torch.empty(1 << 16)
    masks = [Draw.of(0.5, generator).mask(like) for _ in range(40)]
    masks.append(torch.cat([masks[0][1:], masks[0][:1]]))  # neighbours
    both = torch.stack(masks).float() * 2 - 1
    correlations = both @ both.T / len(like)
    assert float((correlations - torch.eye(len(masks))).abs().max()) < 0.02
