"""The native engine on SAM 2's memory against the simulation, which shares no code with it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny_memory import random_arguments, tracked
from tiny_runs import with_grids

from carsam.diagnosis.codes import compare_codes_of
from carsam.engines.native_video_engine import NativeVideoEngine
from carsam.engines.torch_video_engine import TorchVideoEngine
from carsam.engines.video import Recollection, VideoEngine
from carsam.errors import UnsupportedError, UserError
from carsam.families.base import Site
from carsam.families.sam2_video.family import Sam2VideoFamily
from carsam.grids import tables
from carsam.grids.base import Grid
from carsam.grids.grouped import GroupedUniformGrid
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.runtime import strips
from carsam.simulation import slots
from carsam.simulation.model import QuantizedModel

FAMILY = Sam2VideoFamily()
FLOAT = 1e-4


def assert_same(model: Any, checkpoint: Any, tolerance: float = 0) -> None:
    """Every step makes the same of the same; masks and IoUs, which are no codes, nearly so."""
    native = NativeVideoEngine(checkpoint)
    assert isinstance(native, VideoEngine)
    found, expected = tracked(native), tracked(TorchVideoEngine(FAMILY, model, "simulated"))
    for name, parts in expected.items():
        near = tolerance or (1e-5 if name.startswith(("points", "masks")) else 0)
        for place, (one, other) in enumerate(zip(found[name], parts, strict=True)):
            np.testing.assert_allclose(one, other, rtol=0, atol=near, err_msg=f"{name} {place}")


@pytest.mark.parametrize("weight_bits, input_bits", [(4, 4), (8, 8), (2, 3)])
def test_equals_the_simulation(quantized_sam2_video, weight_bits, input_bits) -> None:
    pair = quantized_sam2_video(lambda path: weight_bits, lambda path, operand: input_bits)
    assert_same(pair.model, pair.checkpoint)


@pytest.mark.parametrize("weight_bits, input_bits", [(None, None), (4, None)])
def test_runs_in_float(quantized_sam2_video, weight_bits, input_bits) -> None:
    pair = quantized_sam2_video(lambda path: weight_bits, lambda path, operand: input_bits)
    assert_same(pair.model, pair.checkpoint, FLOAT)


STEPS: dict[str, tuple[tuple[str, ...], Callable]] = {
    "recall": (("memory_attention.",), lambda engine, g: engine.recall(g.embedding, g.memory)),
    "remember": (
        ("memory_encoder.",),
        lambda engine, g: engine.remember(g.embedding, g.masks, g.scores),
    ),
    "track": (
        ("mask_decoder.", "object_pointer_proj."),
        lambda engine, g: engine.track(g.embedding, g.points, False),
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_every_code_is_the_simulations(quantized_sam2_video, step) -> None:
    def operands(path: str, operand: str) -> int | None:
        return None if "mask_decoder.upscale" in path or "conv_s" in path else 4

    pair = quantized_sam2_video(lambda path: operands(path, "weight"), operands)
    model = QuantizedModel(FAMILY, pair.model)
    places, run = STEPS[step]
    sites = [site for site in model.sites if site.path.startswith(places)]
    native, given = NativeVideoEngine(pair.checkpoint), random_arguments(objects=1)
    found = compare_codes_of(model, native, sites, lambda engine: run(engine, given))
    assert sum(one.codes for one in found) > 10_000
    assert [one for one in found if one.differing] == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: RowMaximumGrid.curved(20.0, 4),
        lambda: tables.LogGrid(torch.tensor([0.9]), 2, 4),
        lambda: tables.Log1pGrid(torch.tensor([0.8]), torch.tensor([30.0]), 4),
    ],
)
def test_other_grids_equal_the_simulation(quantized_sam2_video, make) -> None:
    """Of probabilities, of what norms make, and of what GELU makes."""
    pair = quantized_sam2_video(lambda path: 4, lambda path, operand: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        if operand == "probabilities":
            return make()
        if site.path.endswith(".pointwise_conv2"):
            return tables.TwinUniformGrid(0.5 * grid.scale, 2, 1, grid.bits)
        if not site.path.endswith((".k_proj", ".linear1", ".pointwise_conv1")):
            return None
        channels = slots.layer(pair.model, site).layer.weight.shape[1]
        scale = torch.cat([grid.scale, 0.7 * grid.scale])
        return GroupedUniformGrid(
            scale, grid.zero_point.expand(2), torch.arange(channels) % 5 % 2, grid.bits
        )

    assert_same(*with_grids(pair, replaced))


@pytest.mark.parametrize(
    "path",
    ["memory_encoder.mask_downsampler.layers.1.conv", "memory_encoder.memory_fuser.layers.0"],
)
def test_groups_of_a_convolution_are_refused_by_name(quantized_sam2_video, path) -> None:
    pair = quantized_sam2_video(lambda path: 4, lambda path, operand: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        if site.path not in (path, f"{path}.depthwise_conv"):
            return None
        channels = slots.layer(pair.model, site).layer.in_channels
        group = torch.arange(channels) % 2
        return GroupedUniformGrid(grid.scale.expand(2), grid.zero_point.expand(2), group, grid.bits)

    _, checkpoint = with_grids(pair, replaced)
    with pytest.raises(UnsupportedError, match=f"no grouped-uniform grid for the input of {path}"):
        NativeVideoEngine(checkpoint)


def test_strips_change_nothing(quantized_sam2_video, monkeypatch) -> None:
    engine = NativeVideoEngine(quantized_sam2_video(lambda _: 4, lambda *_: 4).checkpoint)
    expected = tracked(engine)
    monkeypatch.setattr(strips, "TOKENS_AT_ONCE", 50)
    for name, parts in tracked(engine).items():
        for one, other in zip(parts, expected[name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_many_prompted_frames_are_recalled_at_8_bits(quantized_sam2_video) -> None:
    """As many tokens as three prompted frames of 1024 pixels, six others and all pointers."""
    pair = quantized_sam2_video(lambda path: 8, lambda path, operand: 8)
    given, tokens = random_arguments(), 9 * 64**2 + 64
    random = np.random.default_rng(0)
    values, positions = random.normal(size=(2, tokens, 64)).astype(np.float32)
    cells = random.integers(-1, 64, tokens)
    memory = Recollection(values, positions, cells)
    (found, *_), (expected, *_) = (
        engine.recall(given.embedding, memory)
        for engine in (
            NativeVideoEngine(pair.checkpoint),
            TorchVideoEngine(FAMILY, pair.model, "simulated"),
        )
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("mask_downsampler_total_stride", 8, "8 times smaller, for 8"),
        ("mask_downsampler_stride", 4, "found side 3, stride 4"),
        ("memory_fuser_kernel_size", 6, "found side 6 and margin 3"),
        ("memory_fuser_hidden_act", "silu", "no activation function silu"),
        ("memory_attention_hidden_size", 60, "asks for"),
        ("memory_attention_num_layers", 3, r"lacks memory_attention\.layers\.2"),
    ],
)
def test_refuses_what_it_is_not_made_for(quantized_sam2_video, key, value, sentence) -> None:
    checkpoint = quantized_sam2_video(lambda path: 4, lambda *_: 4).checkpoint
    checkpoint.manifest["model_config"][key] = value
    with pytest.raises(UserError, match=sentence):
        NativeVideoEngine(checkpoint)
