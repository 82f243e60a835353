"""A float model for inputs of another size: its tables, and that nothing else changes."""

import re

import numpy as np
import pytest
import torch

from carsam.errors import UserError
from carsam.families import load_model
from carsam.families.registry import family_of

SIDE = 40  # 5 x 5 tokens of the tiny SAM, whose windows are of 3
GLOBAL = "vision_encoder.layers.1.attn.rel_pos"
TABLES = {"vision_encoder.pos_embed", f"{GLOBAL}_h", f"{GLOBAL}_w"}


@pytest.mark.parametrize("name", ["tiny_sam", "tiny_sam_hq"])
def test_only_tables_of_the_whole_image_change(name, request) -> None:
    model = request.getfixturevalue(name)
    family, resized = load_model(model, image_size=SIDE)
    before, after = model.state_dict(), resized.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == TABLES
    assert family.framing(resized.config).side == SIDE
    assert family.framing(model.config).side == 64
    assert not resized.training


def test_relative_positions_are_those_that_transformers_interpolates(tiny_sam) -> None:
    attention = tiny_sam.vision_encoder.layers[1].attn
    theirs = attention.get_rel_pos(5, 5, attention.rel_pos_h)  # (5, 5, channels), by distance
    _, resized = load_model(tiny_sam, image_size=SIDE)
    table = resized.vision_encoder.layers[1].attn.rel_pos_h
    distances = torch.arange(5)[:, None] - torch.arange(5) + 4
    assert table.shape == (9, attention.rel_pos_h.shape[1])
    torch.testing.assert_close(table[distances], theirs)


@pytest.mark.parametrize("side", [40, 96])
def test_absolute_positions_are_resampled_by_the_cubic_filter(tiny_sam, side) -> None:
    table = tiny_sam.vision_encoder.pos_embed
    filter_ = torch.from_numpy(cubic_filter(table.shape[1], side // 8)).to(table)
    expected = torch.einsum("ph,qw,bhwc->bpqc", filter_, filter_, table)
    _, resized = load_model(tiny_sam, image_size=side)
    torch.testing.assert_close(resized.vision_encoder.pos_embed.data, expected, atol=1e-5, rtol=0)


def cubic_filter(source: int, target: int) -> np.ndarray:
    """Return the matrix (target, source) of Keys' cubic convolution with a = -0.5.

    When there are fewer places than before, the filter is as much wider, so that none is left out.
    """
    step = source / target
    width = max(step, 1.0)
    centres = (np.arange(target) + 0.5) * step - 0.5
    away = np.abs(np.arange(source) - centres[:, None]) / width
    near = 1.5 * away**3 - 2.5 * away**2 + 1
    far = -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    weights = np.where(away < 1, near, np.where(away < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


def test_a_model_keeps_its_own_size(tiny_sam) -> None:
    assert load_model(tiny_sam, image_size=64)[1] is tiny_sam


def test_stages_of_a_resized_sam2_are_its_own_forward_pass(tiny_sam2) -> None:
    family, resized = load_model(tiny_sam2, image_size=96)
    before, after = tiny_sam2.state_dict(), resized.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedding = family.encode(resized, pixels)
        theirs = resized.get_image_embeddings(pixels)
    assert [part.shape[-1] for part in embedding] == [6, 12, 24]
    placed = embedding[0] + resized.no_memory_embedding.view(1, -1, 1, 1)
    for ours, other in zip((placed, *embedding[1:]), theirs[::-1], strict=True):
        torch.testing.assert_close(ours, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", [0, -40, 20, 16, 4104, 10**9])
def test_sizes_that_do_not_fit_are_refused(tiny_sam, side) -> None:
    said = "expected, for this model, a multiple of 8 from 24 to 4096"
    with pytest.raises(UserError, match=f"image size of {side} pixels; {said}"):
        load_model(tiny_sam, image_size=side)


def test_sam2_needs_a_multiple_of_its_stages(tiny_sam2) -> None:
    said = re.escape("a multiple of 32 from 96 to 4096")
    for side in (80, 64):
        with pytest.raises(UserError, match=said):
            load_model(tiny_sam2, image_size=side)


def test_released_sizes_can_be_halved() -> None:
    from transformers import Sam2Config, SamConfig

    from carsam.families.sam2.weights import SIZES, released_vision

    assert 512 in family_of("sam").sides(SamConfig())
    for size in SIZES:
        assert 512 in family_of("sam2").sides(Sam2Config(vision_config=released_vision(*size)))
