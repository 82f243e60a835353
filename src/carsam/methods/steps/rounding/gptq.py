"""Second-order rounding with error feedback: GPTQ, and GPTAQ's asymmetric term."""

from dataclasses import dataclass

import torch
from torch import Tensor

from carsam.families.base import Site
from carsam.grids.base import UniformGrid
from carsam.grids.observers import WEIGHT_OBSERVERS
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.layer_inputs import (
    float_layers,
    has_rows,
    input_gram,
    input_moments,
    to_nearest,
)
from carsam.methods.order import Outcome
from carsam.methods.parameters import Positive, Share
from carsam.methods.steps.ranges.round_to_nearest import check_observer
from carsam.simulation import slots
from carsam.simulation.layers import Layer, rows_to_weight, weight_to_rows

COLUMNS_AT_ONCE = 128


@dataclass(frozen=True)
class FeedBackErrors(UnitStep):
    """Round weights column by column; the columns not yet rounded make up for each error.

    GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323), of
    min ||(W^ - W) X^||^2 with X^ the inputs on the quantized path. With `asymmetry` also the
    error of the inputs is made up for, min ||W^ X^ - W X||^2 with X the float inputs: GPTAQ (Li
    et al., ICML 2025, arXiv 2504.02692). Layers go in the order of execution, each with inputs
    that hold the errors of the layers before it. Transposed convolutions and depthwise ones are
    rounded to nearest, as the notes say.

    Args:
        damping: added to the diagonal of X^ X^', relative to its mean.
        asymmetry: share of the asymmetric term; 0 is GPTQ, 1 the equations of GPTAQ, 0.25 its
            released code.
        ordered: round columns with large inputs first.
        weights: observer of the weights' grids, which are set anew for the float weights.
    """

    damping: Positive = 0.01
    asymmetry: Share = 0.0
    ordered: bool = True
    weights: str = "mse"
    needs_quantized_path = True
    operands = ("weight",)
    needs = frozenset({Outcome.GRIDS})
    makes = precedes = frozenset({Outcome.ROUNDING})

    def __post_init__(self) -> None:
        check_observer(self.weights, WEIGHT_OBSERVERS)

    def run_(self, unit: Unit) -> None:
        """Round the weights of the unit's layers."""
        originals = float_layers(unit) if self.asymmetry else {}  # GPTQ needs no original weights
        for site, bits in unit.sites:
            layer = slots.weight_layer(unit.model, site)
            if bits.weights is None or layer is None:
                continue
            weight = layer.layer.weight
            rows = weight_to_rows(layer.layer, weight)
            low, high = WEIGHT_OBSERVERS[self.weights](rows, bits.weights)
            layer.weight_grid = UniformGrid.from_range(low, high, bits.weights)
            if has_rows(layer.layer):
                gram, shift = self._moments(unit, site, originals)
                rows = compensated(rows, layer.weight_grid, gram, shift, self.damping, self.ordered)
                weight.copy_(rows_to_weight(layer.layer, rows, weight.shape))
            else:
                unit.notes.append(to_nearest("feed-back-errors", site))
            layer.round_weight_()  # the layers after it see it rounded

    def _moments(
        self, unit: Unit, site: Site, originals: dict[Site, Layer]
    ) -> tuple[Tensor, Tensor | None]:
        """Return the two matrices of `compensated`."""
        if not self.asymmetry:
            return input_gram(unit, site), None
        moments = input_moments(unit, site, originals)
        return moments.quantized, self.asymmetry * moments.shift


def compensated(
    rows: Tensor,
    grid: UniformGrid,
    gram: Tensor,
    shift: Tensor | None,
    damping: float,
    ordered: bool,
) -> Tensor:
    """Return what each of `rows` (outputs, K) is when its turn comes to be rounded to nearest.

    With H = X^ X^' + damping and H^-1 = U' U, U upper triangular: rounding column i with error
    e_i = (w_i - q_i) / U_ii changes the columns after it by -e_i U_i, and by w_i P_i where
    P = triu(shift U', 1) U.

    Args:
        gram: X^ X^', (K, K) in float64.
        shift: (X - X^) X^', (K, K), times the share that is made up for; None is zero.
        damping, ordered: of `FeedBackErrors`.
    """
    diagonal = gram.diagonal()
    order = torch.arange(len(gram), device=gram.device)
    if ordered:
        order = diagonal.argsort(descending=True)
    factor = inverse_factor(gram[order][:, order], damping)
    spread = torch.zeros_like(factor)
    if shift is not None:
        spread = torch.triu(shift[order][:, order] @ factor.T, 1) @ factor
    weights, scale, zero_point = rows.double()[:, order], grid.scale[:, 0], grid.zero_point[:, 0]
    turns = torch.empty_like(weights)
    for start in range(0, len(factor), COLUMNS_AT_ONCE):
        end = min(start + COLUMNS_AT_ONCE, len(factor))
        errors = torch.empty_like(weights[:, start:end])
        values = torch.empty_like(errors)
        for column in range(start, end):
            value = weights[:, column].clone()
            code = (torch.round(value / scale) + zero_point).clamp(0, grid.levels)
            turns[:, column] = value
            error = (value - (code - zero_point) * scale) / factor[column, column]
            errors[:, column - start], values[:, column - start] = error, value
            after = slice(column + 1, end)
            weights[:, after] -= torch.outer(error, factor[column, after])
            weights[:, after] += torch.outer(value, spread[column, after])
        weights[:, end:] -= errors @ factor[start:end, end:]
        weights[:, end:] += values @ spread[start:end, end:]
    result = torch.empty_like(rows)
    result[:, order] = turns.to(rows.dtype)
    return result


def inverse_factor(gram: Tensor, damping: float) -> Tensor:
    """Return U, upper triangular, with (gram + damping * its mean diagonal)^-1 = U' U.

    Where few inputs outweigh all others, or inputs repeat one another, float32's errors may leave
    the sum without an inverse: then ten times the damping is taken, until it has one.

    Args:
        gram: (K, K), symmetric; zero is as good as the identity.
    """
    mean = gram.diagonal().mean()
    if not mean > 0:
        return torch.eye(len(gram)).to(gram)
    while True:
        hessian = gram.clone()
        hessian.diagonal().add_(damping * mean)
        lower, failed = torch.linalg.cholesky_ex(hessian)
        if not failed:
            factor, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed:
                return factor
        damping *= 10
