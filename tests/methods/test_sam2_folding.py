"""What is folded into SAM 2's weights leaves its float output as it is."""

from functools import partial

import pytest
import torch

from carsam.methods.steps.folding.balance_attention import BalanceAttention, scaling
from carsam.methods.steps.folding.fold_norms import FoldNorms

POOLED = "vision_encoder.backbone.blocks.1.attn"  # windows of 8, pooled to 4: no padding
PADDED = "vision_encoder.backbone.blocks.5.attn"  # windows of 6 on 8 x 8 tokens, pooled to 3
PLAIN = "vision_encoder.backbone.blocks.0.attn"


@pytest.fixture
def unit_of(tiny_sam2, make_unit_of):
    """Function (stage path) -> that stage of the tiny SAM 2 as a float unit."""
    return partial(make_unit_of, tiny_sam2)


@torch.no_grad()
def outputs(unit):
    return unit.plan.run(unit.model, unit.inputs[0])["hidden"]


@torch.no_grad()
@pytest.mark.parametrize("path", [POOLED, PADDED, PLAIN])
def test_folding_a_norm_reaches_all_its_readers(unit_of, path):
    unit = unit_of(path)
    norm = unit.model.get_submodule(unit.plan.stages[0].norm.norm)
    norm.weight.mul_(torch.linspace(0.25, 4, len(norm.weight)))
    before, scales = outputs(unit), norm.weight.clone()
    FoldNorms().run_(unit)
    assert not torch.equal(norm.weight, scales)
    # Changed biases are kept in fp16.
    torch.testing.assert_close(outputs(unit), before, atol=2e-2, rtol=0)
    readers = unit.plan.stages[0].norm.layers
    assert len(readers) == (1 if path == PLAIN else 2)


@torch.no_grad()
@pytest.mark.parametrize("path", [POOLED, PADDED, PLAIN])
def test_balanced_attention_attends_as_before(unit_of, path):
    unit = unit_of(path)
    before = outputs(unit)
    weight = unit.model.get_submodule(path).qkv.weight.clone()
    BalanceAttention().run_(unit)
    torch.testing.assert_close(outputs(unit), before, atol=2e-2, rtol=0)
    query = unit.model.get_submodule(path).qkv.weight.chunk(3)[0] / weight.chunk(3)[0]
    factors = query.mean(1, keepdim=True)
    only_scaled = bool(((query - factors).abs() < 1e-3 * factors.abs()).all())
    assert only_scaled == (path != PLAIN)  # what is pooled cannot be rotated
    assert path == PLAIN or bool((factors > 0).all())


def test_scaling_makes_variances_equal_for_neighbours_alike():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 3, 50, 8, generator=generator, dtype=torch.float64)
    first, second = first.mT @ first, second.mT @ second
    for channels in (1, 2):
        mix = scaling(first, second, channels)
        assert torch.equal(mix, torch.diag_embed(mix.diagonal(dim1=-2, dim2=-1)))
        factors = mix.diagonal(dim1=-2, dim2=-1).unflatten(-1, (-1, channels))
        torch.testing.assert_close(factors, factors[..., :1].expand_as(factors))
        inverse = torch.linalg.inv(mix)
        moments = (mix.mT @ first @ mix, inverse @ second @ inverse.mT)
        sums = [m.diagonal(dim1=-2, dim2=-1).unflatten(-1, (-1, channels)).sum(-1) for m in moments]
        torch.testing.assert_close(*sums)
