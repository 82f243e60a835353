from contextlib import nullcontext

import pytest
import torch

from carsam.methods.steps.folding.attention_weights import attentions
from carsam.methods.steps.folding.balance_attention import (
    BalanceAttention,
    attention_moments,
    balancing,
    mix_scores_,
    mix_values_,
    rotation,
    shift_,
)

UNITS = [
    "vision_encoder.layers.0.attn",  # relative positions, padded windows
    "vision_encoder.layers.1.attn",
    "mask_decoder.transformer.layers.0.self_attn",
    "mask_decoder.transformer.layers.1.cross_attn_token_to_image",
    "mask_decoder.transformer.layers.1.cross_attn_image_to_token",
]


def outputs(unit):
    return torch.cat(
        [
            unit.plan.run(unit.model, state)[name].flatten()
            for state in unit.inputs
            for name in unit.plan.outputs
        ]
    )


def matrices(weights, seed):
    generator = torch.Generator().manual_seed(seed)
    size = len(weights.rows["query"][0]) // weights.heads
    noise = torch.randn(weights.heads, size, size, generator=generator, dtype=torch.float64)
    if weights.tables:
        noise = noise[:1].expand_as(noise)
    return torch.eye(size, dtype=torch.float64) + 0.3 * noise / size**0.5


FOLDS = {
    "shift": lambda unit, site, w: shift_(w, attention_moments(unit, site, w)),
    "scores": lambda unit, site, w: mix_scores_(w, matrices(w, 0)),
    "values": lambda unit, site, w: mix_values_(w, matrices(w, 1)),
}


@torch.no_grad()
@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("path", UNITS)
def test_each_fold_leaves_the_float_output(make_unit, path, fold):
    unit = make_unit(path)
    before = outputs(unit)
    for site, weights in attentions(unit):
        changed = [weight.clone() for weight, _ in weights.rows.values()]
        biases = [bias.clone() for _, bias in weights.rows.values()]
        FOLDS[fold](unit, site, weights)
        changed = zip(changed, biases, weights.rows.values(), strict=True)
        assert any(not torch.equal(w, n) or not torch.equal(b, m) for w, b, (n, m) in changed)
    torch.testing.assert_close(outputs(unit), before, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("path", UNITS)
def test_the_step_leaves_the_float_output_up_to_fp16(make_unit, path):
    unit = make_unit(path)
    before = outputs(unit)
    BalanceAttention().run_(unit)
    assert (outputs(unit) - before).abs().max() < 2e-3 * before.abs().max()
    for _, weights in attentions(unit):
        for tensor in (*weights.tables, weights.output.bias):
            assert torch.equal(tensor, tensor.half().float())


def test_balancing_gives_both_factors_one_diagonal():
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(2, 3, 5, 5, generator=generator, dtype=torch.float64)
    first, second = roots @ roots.mT
    mix = balancing(first, second)
    inverse = torch.linalg.inv(mix)
    left, right = mix.mT @ first @ mix, inverse @ second @ inverse.mT
    torch.testing.assert_close(left, right)
    torch.testing.assert_close(left, torch.diag_embed(left.diagonal(dim1=-2, dim2=-1)))


@pytest.mark.parametrize("size", [16, 12, 5])
def test_rotation_is_orthogonal(size):
    turned = rotation(size)
    torch.testing.assert_close(turned @ turned.T, torch.eye(size, dtype=torch.float64))


@torch.no_grad()
def test_one_grid_fits_all_channels_of_a_head(make_unit):
    unit = make_unit("mask_decoder.transformer.layers.1.cross_attn_image_to_token")
    ((site, weights),) = attentions(unit)
    scales = torch.logspace(-1, 1, len(weights.rows["key"][0]))
    weights.rows["key"][0].mul_(scales[:, None])
    weights.rows["key"][1].mul_(scales)
    spreads = []
    for step in (None, BalanceAttention(damping=1e-4)):
        if step:
            step.run_(unit)
        variances = attention_moments(unit, site, weights).keys.diagonal(dim1=1, dim2=2)
        spreads.append(float((variances.amax(1) / variances.amin(1)).max()))
    assert spreads[1] < 1.5 < 5 < spreads[0]


@torch.no_grad()
@pytest.mark.parametrize("operand", ["query", "key", "value"])
@pytest.mark.parametrize("path", UNITS)
def test_heads_whose_operands_do_not_vary_are_passed_over(make_unit, path, operand):
    """Their projection has a bias only, large beside what float32 leaves of its variance."""
    unit = make_unit(path)
    ((_, weights),) = attentions(unit)
    weight, bias = weights.rows[operand]
    size = len(weight) // weights.heads
    fixed = slice(None) if weights.tables else slice(size, 2 * size)  # all share one M there
    weight[fixed] = 0
    bias[fixed] = 100 * torch.randn(bias[fixed].shape, generator=torch.Generator().manual_seed(0))
    before = outputs(unit)
    constant = operand != "query"  # their means are not taken out: something is left to balance
    said = pytest.warns(UserWarning, match="does not vary") if constant else nullcontext()
    with said:
        BalanceAttention(shifts=False).run_(unit)
    difference = (outputs(unit) - before).abs().max()
    assert difference.isfinite()
    assert difference < 2e-2 * before.abs().max()
