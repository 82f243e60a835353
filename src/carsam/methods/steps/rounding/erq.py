"""ERQ: ridge regression against the error of activations, then against that of rounding."""

from dataclasses import dataclass

import torch
from torch import Tensor

from carsam.grids.base import UniformGrid
from carsam.grids.observers import WEIGHT_OBSERVERS
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.layer_inputs import (
    NOISE,
    InputMoments,
    float_layers,
    has_rows,
    input_moments,
    to_nearest,
)
from carsam.methods.order import Outcome
from carsam.methods.parameters import CountFromZero, Positive
from carsam.methods.steps.ranges.round_to_nearest import check_observer
from carsam.simulation import slots
from carsam.simulation.layers import rows_to_weight, weight_to_rows
from carsam.simulation.stored import store_


@dataclass(frozen=True)
class ReduceErrors(UnitStep):
    """ERQ's two regressions (Zhong et al., ICML 2024, arXiv 2407.06794), layer by layer.

    Aqer: weight and bias move to min ||W X - W' X^||^2 + penalty, with X^ the quantized inputs.
    Wqer: half of the columns is rounded, single weights of it are rounded the other way while
    that lowers the error; the other half makes up for the rest by another regression, and is then
    treated alike.

    Where we differ: the penalty is relative to the inputs' mean energy and spares the bias, where
    the released code has an absolute one; weight grids are searched after the first regression.
    Transposed convolutions and depthwise ones are rounded to nearest, as the notes say.

    Args:
        penalty: of both regressions, relative to the mean diagonal of X^ X^'. The released 2000,
            for inputs of variance 1 on 32 images of 197 tokens, is 0.3.
        flips: most weights of a row that are rounded the other way, per half.
        weights: observer of the weights' grids, set after the first regression.
    """

    penalty: Positive = 0.3
    flips: CountFromZero = 100
    weights: str = "mse"
    needs_quantized_path = True
    operands = ("weight",)
    needs = frozenset({Outcome.GRIDS})
    makes = precedes = frozenset({Outcome.ROUNDING})

    def __post_init__(self) -> None:
        check_observer(self.weights, WEIGHT_OBSERVERS)

    def run_(self, unit: Unit) -> None:
        """Correct and round the weights of the unit's layers."""
        originals = float_layers(unit)
        for site, bits in unit.sites:
            layer = slots.weight_layer(unit.model, site)
            if bits.weights is None or layer is None:
                continue
            weight, bias = layer.layer.weight, layer.layer.bias
            rows = weight_to_rows(layer.layer, weight)
            moments = input_moments(unit, site, originals) if has_rows(layer.layer) else None
            if moments is None:
                unit.notes.append(to_nearest("reduce-errors", site))
            else:
                rows, added = correct_inputs(rows, moments, self.penalty, bias is not None)
                if bias is not None:
                    store_(bias, bias + added)
            low, high = WEIGHT_OBSERVERS[self.weights](rows, bits.weights)
            layer.weight_grid = UniformGrid.from_range(low, high, bits.weights)
            if moments is not None:
                rows = round_by_halves(
                    rows, layer.weight_grid, moments.quantized, self.penalty, self.flips
                )
            rows = layer.weight_grid(rows)
            weight.copy_(rows_to_weight(layer.layer, rows, weight.shape))


def correct_inputs(
    rows: Tensor, moments: InputMoments, penalty: float, with_bias: bool
) -> tuple[Tensor, Tensor]:
    """Return the weight rows and the change of the bias that make up for x - x^.

    min over D, d of ||W (X - X^) - D X^ - d 1'||^2 + penalty ||D||^2.
    """
    gram, mixed = moments.quantized, moments.shift  # (K, K)
    mean, shift_mean = (
        total / moments.rows for total in (moments.quantized_sum, moments.shift_sum)
    )
    if with_bias:  # the best bias for any D: regress what is left without the means
        gram = gram - moments.rows * torch.outer(mean, mean)
        mixed = mixed - moments.rows * torch.outer(shift_mean, mean)
    least = NOISE * float(moments.quantized.diagonal().mean())
    change = torch.linalg.solve(_damped(gram, penalty, least), (rows.double() @ mixed).T).T
    added = rows.double() @ shift_mean - change @ mean
    return (rows + change).to(rows.dtype), added.to(rows.dtype)


def round_by_halves(
    rows: Tensor, grid: UniformGrid, gram: Tensor, penalty: float, flips: int
) -> Tensor:
    """Return the rows (outputs, K) rounded half by half, each half correcting the ones before.

    The penalty is of the corrections alone; flips lower the error itself.
    """
    rows, damped = rows.double(), _damped(gram, penalty)
    start, columns = 0, rows.shape[1]
    while start < columns:
        end = start + max(1, (columns - start + 1) // 2)
        half, rest = slice(start, end), slice(end, columns)
        rounded = _flip(rows[:, half], grid, gram[half, half], flips)
        error = rounded - rows[:, half]
        rows[:, half] = rounded
        if end < columns:
            rows[:, rest] -= torch.linalg.solve(damped[rest, rest], gram[rest, half] @ error.T).T
        start = end
    return rows.to(grid.scale.dtype)


def _flip(rows: Tensor, grid: UniformGrid, gram: Tensor, flips: int) -> Tensor:
    """Round rows; while the best flip of a row lowers e G e', make it (e: the row's error)."""
    scale, zero_point = grid.scale, grid.zero_point
    steps = rows / scale
    codes = (torch.round(steps) + zero_point).clamp(0, grid.levels)
    for _ in range(flips):
        error = (codes - zero_point) * scale - rows  # (outputs, k)
        step = torch.where(error > 0, -1.0, 1.0).to(rows.dtype)
        step = torch.where((codes + step < 0) | (codes + step > grid.levels), 0.0, step)
        move = step * scale
        gain = 2 * move * (error @ gram) + move.square() * gram.diagonal()
        best, place = gain.min(1, keepdim=True)
        if not bool((best < 0).any()):
            break
        codes.scatter_add_(1, place, torch.where(best < 0, step.gather(1, place), 0.0))
    return (codes - zero_point) * scale


def _damped(gram: Tensor, penalty: float, least: float = 0.0) -> Tensor:
    """Add the penalty, relative to the mean diagonal, or to `least` where that is more."""
    mean = gram.diagonal().mean().clamp(min=max(least, torch.finfo(torch.float32).tiny))
    return gram + penalty * mean * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
