"""The equations of a compensated attention, summed up over its samples."""

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.methods.steps.mac.compensated_attention import BIAS_COLUMN, CompensatedAttention
from carsam.methods.steps.mac.equations import MatrixEquation, RidgeEquation
from carsam.methods.steps.mac.samples import Inputs

TINY = torch.finfo(torch.float64).tiny
OTHER = {"query": "key", "key": "query"}


def score_equation(
    attention: CompensatedAttention, operand: str, centre: bool, weighted: bool
) -> MatrixEquation:
    """Return the equation of the change of `query` or `key` that undoes the other's rounding.

    Its solution (h, channels or with the bias one more, d) is relative to the original weights.

    Args:
        centre: ignore what softmax ignores, a constant added to a query's scores.
        weighted: weigh the squared error of a score by (A (1 - A))^2, softmax's derivative, as the
            product of a weight per query and one per key.
    """
    first, other = attention.first.exact, OTHER[operand]
    equations = []
    for exact, actual in chain.from_iterable(attention):
        left = first.operand(operand, exact)
        right = first.operand(other, exact)
        left_now = attention.first.rounded.operand(operand, actual)
        right_now = attention.now.quantized(other, actual)
        rows = actual[operand].double()
        own = others = None
        if weighted:
            own, others = score_weights(first.probabilities(exact), operand)
        if centre and operand == "key":  # a key's bias shifts all scores of a query alike
            rows = _centred(rows[:, None], own)[:, 0]
            left, left_now = _centred(left, own), _centred(left_now, own)
        else:
            rows = with_bias(attention, operand, rows)
        if centre and other == "key":
            right, right_now = _centred(right, others), _centred(right_now, others)
        if own is not None and others is not None:
            left, left_now = left * own.sqrt(), left_now * own.sqrt()
            rows = rows * own[:, 0].sqrt()
            right, right_now = right * others.sqrt(), right_now * others.sqrt()
        error = left_now - left if attention.asymmetric else None
        equations.append(MatrixEquation.from_operands(rows, left, right, right_now, error))
    return MatrixEquation.joined(equations)


def value_equation(attention: CompensatedAttention) -> RidgeEquation:
    """Return the equation of the change of the values that undoes the probabilities' rounding.

    Ridge regression per head: min ||A V - A^ (V + Y D)||^2 + penalty ||D||^2, where rounded
    rows of A^ need not sum to 1: the bias column is their sums.
    """
    parts = [[_value_statistics(attention, *part) for part in image] for image in attention]
    sums = [[sum(each) for each in zip(*image, strict=True)] for image in parts]
    return RidgeEquation(*(torch.stack(each) for each in zip(*sums, strict=True)))


def _value_statistics(
    attention: CompensatedAttention, exact: Inputs, actual: Inputs
) -> tuple[Tensor, Tensor]:
    """Return gram and right side (h, n, n), (h, n, d) of some boxes."""
    first = attention.first
    target = (
        first.exact.probabilities(exact).double() @ first.exact.operand("value", exact).double()
    )
    values = first.rounded.operand("value", actual).double()
    quantized = attention.now.quantized_probabilities(actual).double()
    error = target - quantized @ values  # (batch, h, queries, d)
    rows = with_bias(attention, "value", actual["value"].double())
    if quantized.shape[3] <= quantized.shape[2]:  # few keys: A^ Y would be large
        rows = rows[:, None]
        gram = rows.mT @ (quantized.mT @ quantized) @ rows
        return gram.sum(0), (rows.mT @ (quantized.mT @ error)).sum(0)
    attended = quantized.flatten(1, 2) @ rows  # all heads at once
    attended = attended.view(*quantized.shape[:3], -1)  # (batch, h, queries, n)
    return (attended.mT @ attended).sum(0), (attended.mT @ error).sum(0)


def score_weights(probabilities: Tensor, operand: str) -> tuple[Tensor, Tensor]:
    """Return weights of an operand's tokens and of the other one's, whose products weigh scores.

    They have the sums of (A (1 - A))^2 over either axis. Heads share the operand's inputs, so
    its weights (batch, 1, tokens, 1) are for all heads and add up to 1; those of the other
    operand are (batch, h, others, 1).

    Args:
        probabilities: A (batch, h, queries, keys).
        operand: `query` or `key`.
    """
    squared = (probabilities * (1 - probabilities)).double().square()
    if operand == "key":
        squared = squared.mT
    own = squared.sum((1, 3))[:, None, :, None]
    return own / own.sum(2, keepdim=True).clamp(min=TINY), squared.sum(2)[..., None]


def with_bias(attention: CompensatedAttention, operand: str, rows: Tensor) -> Tensor:
    """Return the inputs with the bias's column, if there is a bias to change."""
    if attention.first.exact.weights[operand][1] is None:
        return rows
    return F.pad(rows, (0, 1), value=BIAS_COLUMN)


def _centred(tokens: Tensor, weights: Tensor | None) -> Tensor:
    """Subtract the mean over the tokens (..., tokens, channels), weighted (..., tokens, 1)."""
    if weights is None:
        return tokens - tokens.mean(-2, keepdim=True)
    total = weights.sum(-2, keepdim=True).clamp(min=TINY)
    return tokens - (tokens * weights).sum(-2, keepdim=True) / total
