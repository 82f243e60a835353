"""The products of attention while training: what is kept for the backward pass."""

import torch

from carsam.grids.row_maximum import RowMaximumGrid
from carsam.simulation import attention
from carsam.simulation.attention import AttentionProduct
from carsam.simulation.trainable import LearnedGrid

BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 2, 24, 40, 4


def trained(monkeypatch, at_once, keep=1.0):
    """Attended values, gradients and the number of values that are kept between the passes."""
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    tokens = (QUERIES, KEYS, KEYS)
    operands = [
        torch.randn(BATCH, HEADS, n, WIDTH, generator=generator).requires_grad_() for n in tokens
    ]
    product = AttentionProduct()
    grid = LearnedGrid(RowMaximumGrid.curved(8.0, 4), keep, generator)
    product.quantizers["probabilities"] = grid
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = product(*operands, 0.5)
    (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
    return result, [each.grad for each in operands] + [grid.factor.grad], sum(kept)


def test_scores_too_many_at_once_are_computed_again(monkeypatch):
    whole, gradients, kept = trained(monkeypatch, BATCH * HEADS * QUERIES * KEYS)
    parts, same_gradients, kept_of_parts = trained(monkeypatch, QUERIES * KEYS)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(same_gradients, gradients)
    assert kept > BATCH * HEADS * QUERIES * KEYS
    assert kept_of_parts < 4 * BATCH * HEADS * (QUERIES + 2 * KEYS) * WIDTH


def test_rounding_that_is_drawn_is_not_drawn_twice(monkeypatch):
    _, _, kept = trained(monkeypatch, QUERIES * KEYS, keep=0.5)
    assert kept > BATCH * HEADS * QUERIES * KEYS
