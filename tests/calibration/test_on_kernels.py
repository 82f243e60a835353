"""With the native kernels and without them, calibration makes the same bits."""

import pytest
import torch

from carsam.calibration import loop
from carsam.calibration.quantize import quantize
from carsam.grids.base import UniformGrid
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.grids.tables import Log1pGrid, LogGrid, TwinUniformGrid
from carsam.methods.registry import make_recipe
from carsam.runtime import kernels
from carsam.simulation import on_kernels
from carsam.simulation.attention import AttentionProduct, rounding_of_probabilities
from carsam.simulation.relative_position import RelativePosition

pytestmark = pytest.mark.skipif(
    kernels.instruction_set() == "numpy", reason="the extension is not built"
)

QUICK = {
    "carsam": ("reconstruct.steps=3",),
    "carsam-plus": ("polish.steps=3",),
    "ahcptq": ("reconstruct.steps=3",),  # grids per group of channels, listed values
    "gptaq": (),
}


class Off:
    """In place of the context that switches the kernels on."""

    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


@pytest.mark.filterwarnings("ignore:.*reconstruction raised the loss", "ignore:Polish raised")
@pytest.mark.parametrize("name", QUICK)
def test_a_quantization_has_the_same_bits(tiny_sam, image_folder, monkeypatch, name):
    recipe = make_recipe(name, "w4a4", settings=QUICK[name])
    used = count_calls(monkeypatch)
    fast = quantize(tiny_sam, image_folder, recipe, count=2, prompts_per_image=3)
    assert min(used.values()) > 0, used
    monkeypatch.setattr(loop, "on_kernels", Off)
    used.update(dict.fromkeys(used, 0))
    plain = quantize(tiny_sam, image_folder, recipe, count=2, prompts_per_image=3)
    assert not any(used.values())
    tensors, expected = fast.to_checkpoint().tensors, plain.to_checkpoint().tensors
    assert tensors.keys() == expected.keys()
    different = [name for name in tensors if (tensors[name] != expected[name]).any()]
    assert not different
    assert fast.provenance["notes"] == plain.provenance["notes"]


def count_calls(monkeypatch) -> dict[str, int]:
    """Count what is computed by kernels."""
    used = {}
    for name in ("layer_norm", "gelu", "linear", "attention"):
        used[name], kernel = 0, getattr(on_kernels, name)

        def counted(*arguments, name=name, kernel=kernel):
            result = kernel(*arguments)
            used[name] += result is not None
            return result

        monkeypatch.setattr(on_kernels, name, counted)
    return used


def uniform(scale, zero_point, bits):
    return UniformGrid(torch.tensor([scale]), torch.tensor([zero_point]), bits)


def ends(count):
    """Batches of queries and keys: equal, keys shared, queries shared."""
    return {"each": (count, count), "keys shared": (count, 1), "queries shared": (1, count)}


PROBABILITIES = {
    "uniform": uniform(1 / 15, 0.0, 4),
    "uniform with a zero point": uniform(1 / 12, 2.0, 4),
    "row-maximum": RowMaximumGrid.curved(16.0, 4),
    "log2": LogGrid(torch.tensor([0.31]), 2, 4),
    "log2 of granularity 1": LogGrid(torch.tensor([0.97]), 1, 4),
    "log1p": Log1pGrid(torch.tensor([0.5]), torch.tensor([300.0]), 4),
    "twin-uniform": TwinUniformGrid(torch.tensor([0.003]), 4, 0, 4),
}


@pytest.mark.parametrize("positions", [False, True], ids=["plain", "positions"])
@pytest.mark.parametrize("batches", ends(3).values(), ids=ends(3))
@pytest.mark.parametrize("probabilities", PROBABILITIES.values(), ids=PROBABILITIES)
def test_an_attention_has_the_same_bits(probabilities, batches, positions):
    generator = torch.Generator().manual_seed(0)
    queries, keys = (49, 49) if positions else (7, 300)
    query = torch.randn(batches[0], 2, queries, 8, generator=generator)
    key, value = torch.randn(2, batches[1], 2, keys, 8, generator=generator)
    product = AttentionProduct()
    grids = {"query": uniform(0.3, 7.0, 4), "key": uniform(0.25, 8.0, 4)}
    grids |= {"probabilities": probabilities, "value": uniform(0.4, 5.0, 4)}
    product.quantizers.update(grids)
    relative = None
    if positions:
        tables = torch.randn(2, 13, 8, generator=generator).half().float()
        relative = RelativePosition(*tables, 7, 7)
    with torch.no_grad():
        expected = product(query, key, value, 0.35, relative)
        with on_kernels.on_kernels():
            found = product(query, key, value, 0.35, relative)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("grid", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_are_rounded_to_the_same_bits(grid):
    probabilities = torch.randn(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)).softmax(3)
    with torch.no_grad():
        expected = rounding_of_probabilities(grid)(probabilities)
        with on_kernels.on_kernels():
            assert torch.equal(rounding_of_probabilities(grid)(probabilities), expected)


def test_sums_that_float64_may_round_stay_with_torch():
    wide = LogGrid(torch.tensor([1.0]), 1, 6)  # 2**-62 beside 1
    narrow = LogGrid(torch.tensor([1.0]), 2, 4)
    value = uniform(1.0, 8.0, 4)
    assert on_kernels.sums_exactly(narrow, value, 4096)
    assert not on_kernels.sums_exactly(wide, value, 4096)


def test_kernels_are_off_unless_switched_on_and_never_with_gradients():
    values = torch.ones(3)
    with torch.no_grad():
        assert not on_kernels.usable(values)
        with on_kernels.on_kernels():
            assert on_kernels.usable(values)
            assert not on_kernels.usable(values.double())
            with torch.enable_grad():
                assert not on_kernels.usable(values)
        assert not on_kernels.usable(values)
