"""The native engine on SAM 2 against the simulation, which shares no code with it."""

import numpy as np
import pytest
import torch
from beside_simulation import BOXES, PROMPTS, TIES, assert_same
from tiny_runs import with_grids

from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.families.base import Site
from carsam.families.sam2.family import Sam2Family, decode_tokens, without_memory
from carsam.families.sam2.positions import image_positions
from carsam.grids import tables
from carsam.grids.base import Grid
from carsam.grids.grouped import GroupedUniformGrid
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.runtime import positions, strips
from carsam.runtime.networks import read_sam2
from carsam.runtime.sam2_decoder import Stability
from carsam.runtime.two_way import Tokens
from carsam.runtime.weights import Weights
from carsam.simulation import slots

FAMILY = Sam2Family()
PIXELS = np.random.default_rng(7).normal(size=(3, 128, 128)).astype(np.float32)
BITS = [(None, None), (4, 4), (4, 8), (8, 8), (2, 3), (4, None)]


@pytest.mark.parametrize("weight_bits, input_bits", BITS)
def test_equals_the_simulation(quantized_sam2, weight_bits, input_bits) -> None:
    pair = quantized_sam2(lambda path: weight_bits, lambda path, operand: input_bits)
    assert_same(pair.model, pair.checkpoint, PROMPTS, (True, False))


def test_a_decoder_as_wide_as_the_kernels_equals_the_simulation(quantized_sam2, sam2_of) -> None:
    """Upscaling of at least 16 channels runs in C++; of those that are quantized in numpy."""

    def weights(path: str) -> int | None:
        return None if "upscale" in path or "hypernet" in path else 4

    pair = quantized_sam2(weights, lambda path, _: weights(path), sam2_of(128))
    assert_same(pair.model, pair.checkpoint, ("points and boxes", "boxes"), (True, False))


@pytest.mark.parametrize("seed", range(3))
def test_runs_any_mixture_of_float_and_quantized_sites(quantized_sam2, seed) -> None:
    random = np.random.default_rng(seed)

    def bits(*site: str) -> int | None:
        return table.setdefault(site, random.choice([None, 3, 4, 8]))

    table: dict[tuple[str, ...], int | None] = {}
    pair = quantized_sam2(bits, bits)
    assert_same(pair.model, pair.checkpoint, tolerance=TIES)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RowMaximumGrid.curved(20.0, 4),
        lambda: tables.LogGrid(torch.tensor([0.9]), 2, 4),
        lambda: tables.Log1pGrid(torch.tensor([0.8]), torch.tensor([30.0]), 4),
        lambda: tables.TwinUniformGrid(torch.tensor([0.6 / 2**4]), 2, 0, 4),
    ],
)
def test_other_grids_of_probabilities_equal_the_simulation(quantized_sam2, make) -> None:
    pair = quantized_sam2(lambda path: 4, lambda path, operand: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        return make() if operand == "probabilities" else None

    assert_same(*with_grids(pair, replaced))


def test_other_grids_of_inputs_equal_the_simulation(quantized_sam2) -> None:
    """Groups of channels behind norms and attentions, listed values behind GELU."""
    pair = quantized_sam2(lambda path: 4, lambda path, operand: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        if site.path.endswith(".proj_out") and ".blocks." in site.path:
            return tables.TwinUniformGrid(0.5 * grid.scale, 2, 1, grid.bits)
        if not site.path.endswith((".qkv", ".proj")):
            return None
        channels = slots.layer(pair.model, site).layer.weight.shape[1]
        scale = torch.cat([grid.scale, 0.7 * grid.scale])
        group = torch.arange(channels) % 5 % 2
        return GroupedUniformGrid(scale, grid.zero_point.expand(2), group, grid.bits)

    assert_same(*with_grids(pair, replaced))


@pytest.mark.parametrize(("sources", "side"), [((7, 7), 256), ((14, 9), 64), ((7, 7), 8)])
def test_positions_are_those_of_the_simulation(sources, side) -> None:
    random = np.random.default_rng(0)
    background = random.normal(size=(5, *sources)).astype(np.float32)
    window = random.normal(size=(5, 8, 8)).astype(np.float32)
    found = positions.image_positions(background, window, side)
    tensors = (torch.from_numpy(table)[None] for table in (background, window))
    expected = image_positions(*tensors, (side, side)).reshape(side * side, 5).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found != expected).mean() < 1e-5  # where the order of a float64 sum shows


def test_strips_change_nothing(quantized_sam2, monkeypatch) -> None:
    """Padded windows are among those of the last strips."""
    engine = NativeEngine(quantized_sam2(lambda path: 4, lambda path, operand: 4).checkpoint)
    expected = engine.encode(PIXELS)
    for tokens in (1, 100, 300):
        monkeypatch.setattr(strips, "TOKENS_AT_ONCE", tokens)
        for found, whole in zip(engine.encode(PIXELS), expected, strict=True):
            np.testing.assert_array_equal(found, whole)


def test_a_first_stage_whose_tokens_all_attend_to_each_other(quantized_sam2, sam2_of, monkeypatch):
    monkeypatch.setattr(strips, "TOKENS_AT_ONCE", 100)
    pair = quantized_sam2(lambda path: 4, lambda path, operand: 4, sam2_of(32, whole=(0, 3)))
    assert_same(pair.model, pair.checkpoint)


def test_scores_are_those_of_the_simulation(quantized_sam2) -> None:
    pair = quantized_sam2(lambda path: 4, lambda path, operand: 4)
    image, *fine = TorchEngine(FAMILY, pair.model, "simulated").encode(PIXELS)
    parts = [torch.from_numpy(part)[None] for part in (image, *fine)]
    placed = without_memory(pair.model, parts[0]), *parts[1:]
    with torch.inference_mode():
        expected = decode_tokens(
            pair.model, placed, False, input_boxes=torch.from_numpy(BOXES)[None]
        )[3][0]
    network = read_sam2(Weights(pair.checkpoint), pair.checkpoint.manifest["model_config"])
    tokens, dense = network.prompt_encoder(PROMPTS["boxes"])
    rows = image.reshape(len(image), -1).T + network.no_memory + dense
    levels = tuple(np.ascontiguousarray(level.transpose(1, 2, 0)) for level in fine)
    found = network.decoder(
        Tokens(rows[None], network.positions[None]), tokens, False, (levels[0], levels[1])
    )
    np.testing.assert_allclose(found.scores, expected.numpy(), atol=1e-5)


def test_the_choice_of_a_mask_is_transformers(tiny_sam2) -> None:
    random = np.random.default_rng(0)
    masks = random.normal(size=(6, 4, 8, 8)).astype(np.float32)
    masks[1, 0], masks[3, 0] = -5, 7  # an empty mask, and a whole one: both are stable
    masks[4, 0] = np.where(masks[4, 0] > 0, 3, -3)
    ious = random.uniform(size=(6, 4)).astype(np.float32)
    decoder = tiny_sam2.mask_decoder
    expected, expected_ious = decoder._dynamic_multimask_via_stability(
        torch.from_numpy(masks)[None], torch.from_numpy(ious)[None]
    )
    chosen = Stability(0.05, 0.98).chosen(masks, ious)
    assert set(chosen[[1, 3, 4]]) == {0} and (chosen[[0, 2, 5]] > 0).all()
    np.testing.assert_array_equal(masks[np.arange(6), chosen], expected[0, :, 0].numpy())
    np.testing.assert_array_equal(ious[np.arange(6), chosen], expected_ious[0, :, 0].numpy())


def test_prompts_may_have_frequencies_of_their_own(quantized_sam2, tiny_sam2) -> None:
    tiny_sam2.prompt_encoder.shared_embedding.positional_embedding.mul_(0.5)
    pair = quantized_sam2(lambda path: 4, lambda path, operand: 8)
    assert_same(pair.model, pair.checkpoint)


def test_a_model_without_that_choice_takes_the_first_mask(quantized_sam2, tiny_sam2) -> None:
    tiny_sam2.config.mask_decoder_config.dynamic_multimask_via_stability = False
    tiny_sam2.mask_decoder.dynamic_multimask_via_stability = False
    pair = quantized_sam2(lambda path: 4, lambda path, operand: 8)
    assert_same(pair.model, pair.checkpoint, multimask_outputs=[False])


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("vision_config/num_feature_levels", 2, "with 4 stages"),
        ("vision_config/backbone_config/num_query_pool_stages", 2, "with 4 stages"),
        ("vision_config/backbone_config/query_stride", [2, 1], "one query_stride for height"),
        ("vision_config/backbone_config/patch_padding", [4, 4], "margin 4"),
        ("vision_config/backbone_config/window_size_per_stage", [8, 3, 6, 3], "even sides"),
        ("vision_config/backbone_config/hidden_act", "silu", "no activation function silu"),
        ("mask_decoder_config/num_hidden_layers", 3, "with 2 blocks; found 3"),
        ("mask_decoder_config/mlp_dim", 60, "has 64 outputs"),
        ("prompt_encoder_config/image_size", 100, "none of them may leave a remainder"),
    ],
)
def test_refuses_what_it_is_not_made_for(quantized_sam2, place, value, sentence) -> None:
    checkpoint = quantized_sam2(lambda path: 4, lambda *_: 4).checkpoint
    *parents, last = place.split("/")
    section = checkpoint.manifest["model_config"]
    for name in parents:
        section = section[name]
    section[last] = value
    with pytest.raises(UserError, match=sentence):
        NativeEngine(checkpoint)


def test_refuses_other_grids_by_name(quantized_sam2) -> None:
    pair = quantized_sam2(lambda path: 4, lambda *_: 4)
    path = "vision_encoder.backbone.blocks.1.attn"

    def replaced(site: Site, name: str, grid: Grid) -> Grid | None:
        log = tables.LogGrid(torch.tensor([0.9]), 2, 4)
        return log if (site.path, name) == (path, "query") else None

    _, checkpoint = with_grids(pair, replaced)
    with pytest.raises(UserError, match=f"no log2 grid for the query of {path}"):
        NativeEngine(checkpoint)


def test_refuses_pixels_of_another_size(quantized_sam2) -> None:
    engine = NativeEngine(quantized_sam2(lambda path: None, lambda *_: None).checkpoint)
    assert engine.framing.stretched
    with pytest.raises(UserError, match=r"expects \(3, 128, 128\)"):
        engine.encode(np.zeros((3, 64, 64), np.float32))
