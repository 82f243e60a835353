"""The native engine against the simulation, which shares no code with it."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from beside_simulation import BOXES, PROMPTS, TIES, assert_same
from tiny_runs import (
    codebook,
    grouped,
    log1p,
    log2,
    log_uniform,
    row_maximum,
    signed_twin,
    twin,
    with_grids,
)

from carsam.engines.base import Engine
from carsam.engines.native_engine import NativeEngine
from carsam.errors import UserError
from carsam.families.base import Site
from carsam.formats.checkpoint import Checkpoint
from carsam.grids.base import Grid
from carsam.grids.codebook import CodebookGrid
from carsam.images.prompts import Prompts
from carsam.simulation import slots

PIXELS = np.random.default_rng(7).normal(size=(3, 64, 64)).astype(np.float32)
BITS = [(None, None), (4, 4), (4, 8), (8, 8), (6, 6), (2, 3), (4, None), (None, 4)]


@pytest.mark.parametrize("weight_bits, input_bits", BITS)
def test_equals_the_simulation(quantized_pair, weight_bits, input_bits) -> None:
    pair = quantized_pair(lambda path: weight_bits, lambda path, operand: input_bits)
    assert_same(pair.model, pair.checkpoint, PROMPTS, tolerance=TIES)


@pytest.mark.parametrize("seed", range(4))
def test_runs_any_mixture_of_float_and_quantized_sites(quantized_pair, seed) -> None:
    random = np.random.default_rng(seed)

    def bits(*site: str) -> int | None:
        return table.setdefault(site, random.choice([None, 3, 4, 8]))

    table: dict[tuple[str, ...], int | None] = {}
    pair = quantized_pair(bits, bits)
    assert_same(pair.model, pair.checkpoint, multimask_outputs=[False], tolerance=TIES)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("make", [row_maximum, log2, log1p, twin])
def test_other_grids_of_probabilities_equal_the_simulation(quantized_pair, make, bits) -> None:
    """The other operands have 8 bits, whose ties do little."""
    pair = quantized_pair(lambda path: 4, lambda path, operand: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        return make(bits) if operand == "probabilities" else None

    assert_same(*with_grids(pair, replaced))


@pytest.mark.parametrize("weight_bits", [4, None])
@pytest.mark.parametrize("make", [signed_twin, log_uniform, grouped])
def test_other_grids_of_inputs_equal_the_simulation(quantized_pair, make, weight_bits) -> None:
    pair = quantized_pair(lambda path: weight_bits, lambda path, operand: 8)
    ends = (".qkv", "q_proj", "k_proj", "lin1") if make is grouped else (".lin2",)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        if not site.path.endswith(ends):
            return None
        channels = slots.layer(pair.model, site).layer.in_features
        return make(grid, channels) if make is grouped else make(grid)

    assert_same(*with_grids(pair, replaced), tolerance=TIES)


ATTENDED = ("query", "key", "value")


@pytest.mark.parametrize("operands", [("input",), ATTENDED, ("input", *ATTENDED)])
@pytest.mark.parametrize("weight_bits, bits", [(4, 4), (4, 7), (8, 6), (None, 6)])
def test_codebooks_equal_the_simulation(quantized_pair, operands, weight_bits, bits) -> None:
    pair = quantized_pair(lambda path: weight_bits, lambda path, operand: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        return codebook(grid, bits) if operand in operands else None

    assert_same(*with_grids(pair, replaced))


def test_refuses_a_codebook_of_probabilities(quantized_pair) -> None:
    pair = quantized_pair(lambda path: 4, lambda *_: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        return codebook(grid, 4) if operand == "probabilities" else None

    _, checkpoint = with_grids(pair, replaced)
    with pytest.raises(UserError, match="no codebook grid for the probabilities"):
        NativeEngine(checkpoint)


def test_refuses_a_codebook_that_lacks_zero(quantized_pair) -> None:
    pair = quantized_pair(lambda path: 4, lambda *_: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        if site.path != "vision_encoder.neck.conv2":
            return None
        return CodebookGrid(grid.scale, grid.zero_point, grid.zero_point + 1 + torch.arange(4), 2)

    _, checkpoint = with_grids(pair, replaced)
    with pytest.raises(UserError, match=r"A codebook of entries .* and zero point"):
        NativeEngine(checkpoint)


def test_chunks_of_prompts_do_not_change_masks(quantized_pair) -> None:
    pair = quantized_pair(lambda path: 4, lambda path, operand: 8)
    engine = NativeEngine(pair.checkpoint)
    embedding = engine.encode(PIXELS)
    boxes = np.tile(BOXES, (7, 1))
    masks, ious = engine.decode(embedding, Prompts(boxes=boxes), True)
    single, single_ious = engine.decode(embedding, Prompts(boxes=boxes[1:2]), True)
    assert masks.shape == (21, 3, 32, 32)
    np.testing.assert_allclose(masks[19], single[0], atol=1e-5)
    np.testing.assert_allclose(ious[19], single_ious[0], atol=1e-5)


def test_is_an_engine(quantized_pair) -> None:
    engine = NativeEngine(quantized_pair(lambda path: None, lambda *_: None).checkpoint)
    assert isinstance(engine, Engine)
    assert (engine.mode, engine.framing.side) == ("native", 64)


def test_refuses_other_families_by_name() -> None:
    with pytest.raises(UserError, match="family sam_hq"):
        NativeEngine(Checkpoint({"family": "sam_hq", "model_config": {}, "sites": {}}, {}))


@pytest.mark.parametrize(
    "path, operand",
    [("vision_encoder.layers.1.attn", "query"), ("vision_encoder.neck.conv2", "input")],
)
def test_refuses_other_grids_by_name(quantized_pair, path, operand) -> None:
    pair = quantized_pair(lambda path: 4, lambda *_: 4)

    def replaced(site: Site, name: str, grid: Grid) -> Grid | None:
        return log2(4) if (site.path, name) == (path, operand) else None

    _, checkpoint = with_grids(pair, replaced)
    with pytest.raises(UserError, match=f"no log2 grid for the {operand} of {path}"):
        NativeEngine(checkpoint)


def test_refuses_groups_of_other_channels(quantized_pair) -> None:
    pair = quantized_pair(lambda path: 4, lambda *_: 4)
    path = "vision_encoder.layers.1.mlp.lin1"

    def replaced(site: Site, name: str, grid: Grid) -> Grid | None:
        return grouped(grid, 31) if site.path == path else None

    _, checkpoint = with_grids(pair, replaced)
    with pytest.raises(UserError, match=f"{path} has groups of 31 inputs"):
        NativeEngine(checkpoint)


def test_refuses_sums_beyond_32_bits(quantized_pair, monkeypatch) -> None:
    checkpoint = quantized_pair(lambda path: 4, lambda *_: 4).checkpoint
    monkeypatch.setattr("carsam.runtime.weights.MOST_COLUMNS", 63)
    with pytest.raises(UserError, match="sums at most 63 products"):
        NativeEngine(checkpoint)


def test_names_a_missing_tensor(quantized_pair) -> None:
    checkpoint = quantized_pair(lambda path: 4, lambda *_: 4).checkpoint
    del checkpoint.tensors["mask_decoder.iou_token.weight"]
    with pytest.raises(UserError, match=r"lacks mask_decoder.iou_token.weight"):
        NativeEngine(checkpoint)


def test_refuses_a_weight_of_another_shape(quantized_pair) -> None:
    checkpoint = quantized_pair(lambda path: 4, lambda *_: 4).checkpoint
    checkpoint.manifest["model_config"]["vision_config"]["mlp_dim"] = 60
    with pytest.raises(UserError, match=r"layers.0.mlp.lin1 has 64 outputs"):
        NativeEngine(checkpoint)


def test_refuses_pixels_of_another_size(quantized_pair) -> None:
    engine = NativeEngine(quantized_pair(lambda path: None, lambda *_: None).checkpoint)
    with pytest.raises(UserError, match=r"expects \(3, 64, 64\)"):
        engine.encode(np.zeros((3, 32, 32), np.float32))


def test_needs_neither_torch_nor_transformers() -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import carsam.engines.native_engine\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
