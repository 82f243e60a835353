"""Solvers of the equations of MatMul-aware compensation, and the choice of their penalty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from carsam.methods.steps.mac.equations import MatrixEquation, RidgeEquation

NEGLIGIBLE = 1e-14  # of the largest eigenvalue: below it a direction carries no information


@dataclass(frozen=True)
class Solution:
    """What a solver found.

    Args:
        change: D (h, n, d).
        residual: largest relative residual of the true equation over the heads.
        iterations: of conjugate gradients; 0 for closed forms.
    """

    change: Tensor
    residual: float
    iterations: int = 0


def solve_exact(
    equation: MatrixEquation, penalty: Tensor, tolerance: float = 1e-6, most_iterations: int = 300
) -> Solution:
    """Solve the equation of all samples by conjugate gradients, all heads at once.

    The pooled equation is the preconditioner.

    Args:
        penalty: (h, 1, 1).
        tolerance: relative residual at which to stop.
        most_iterations: when to stop in any case.
    """
    right_side = equation.right_side
    precondition = sylvester_inverse(*equation.pooled_grams(), penalty)
    change, residual = torch.zeros_like(right_side), right_side.clone()
    preconditioned = precondition(residual)
    direction, product = preconditioned, _inner(residual, preconditioned)
    iterations = 0
    while iterations < most_iterations and _relative(residual, right_side) > tolerance:
        applied = equation.apply(direction) + penalty * direction
        step = _divide(product, _inner(direction, applied))
        change = change + step * direction
        residual = residual - step * applied
        preconditioned = precondition(residual)
        past, product = product, _inner(residual, preconditioned)
        direction = preconditioned + _divide(product, past) * direction
        iterations += 1
    return Solution(change, _relative(residual, right_side), iterations)


def solve_pooled(equation: MatrixEquation, penalty: Tensor) -> Solution:
    """Solve (sum G) D (mean B) + penalty D = C with C pooled likewise: one Sylvester equation.

    Pooling only the left side can do worse than no compensation.
    """
    right_side = -equation.moments.sum(0) @ equation.errors.mean(0)
    return _judged(
        equation, penalty, sylvester_inverse(*equation.pooled_grams(), penalty)(right_side)
    )


def solve_averaged(equation: MatrixEquation, penalty: Tensor) -> Solution:
    """Average the solutions of each sample's own Sylvester equation: the paper's form, batched.

    Right for one sample; for several it can do worse than no compensation.
    """
    grams = equation.input_grams()
    inverse = sylvester_inverse(grams[:, None], equation.grams, penalty / len(grams))
    return _judged(equation, penalty, inverse(-equation.moments @ equation.errors).mean(0))


Solver = Callable[[MatrixEquation, Tensor], Solution]

SOLVERS: dict[str, Solver] = {
    "exact": solve_exact,
    "pooled": solve_pooled,
    "sylvester": solve_averaged,
}
"""Solvers by name."""


def sylvester_inverse(
    gram: Tensor, right_gram: Tensor, penalty: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return the function C -> D with G D B + penalty D = C, by eigendecompositions.

    The same as `penalty G^-1 D + D B = G^-1 C`, but G may be singular: directions without
    information are left at zero.

    Args:
        gram: G (..., n, n), symmetric and not negative.
        right_gram: B (..., d, d), the same.
        penalty: (..., 1, 1).
    """
    left_values, left_vectors = torch.linalg.eigh(gram)
    right_values, right_vectors = torch.linalg.eigh(right_gram)
    left_values, right_values = left_values.clamp(min=0), right_values.clamp(min=0)
    spectrum = left_values[..., :, None] * right_values[..., None, :] + penalty

    def inverse(right_side: Tensor) -> Tensor:
        rotated = left_vectors.mT @ right_side @ right_vectors
        return left_vectors @ _divide(rotated, spectrum) @ right_vectors.mT

    return inverse


Equation = TypeVar("Equation", MatrixEquation, RidgeEquation)


def solve_ridge(equation: RidgeEquation, penalty: Tensor) -> Solution:
    """Solve by eigendecomposition; G may be singular.

    Args:
        penalty: (h, 1, 1).
    """
    values, vectors = torch.linalg.eigh(equation.grams.sum(0))
    right_side = equation.right_side
    spectrum = values.clamp(min=0)[..., None] + penalty
    change = vectors @ _divide(vectors.mT @ right_side, spectrum.expand_as(right_side))
    return Solution(change, 0.0)


def cross_validated(
    equation: Equation,
    solver: Callable[[Equation, Tensor], Solution],
    strengths: Sequence[float],
    columns: int,
) -> float:
    """Return the strength whose solution from half of the samples suits the other half best.

    Args:
        strengths: to choose from; the first is returned for a single sample.
        columns: see `MatrixEquation.penalty`.
    """
    middle = equation.samples // 2
    if middle == 0:
        return strengths[0]
    halves = equation.part(slice(middle)), equation.part(slice(middle, None))

    def error_of_unseen(strength: float) -> float:
        """What the squared error of each half rises by with the other's solution."""
        error = 0.0
        for seen, unseen in (halves, halves[::-1]):
            change = solver(seen, seen.penalty(strength, columns)).change
            error += float((change * (unseen.apply(change) - 2 * unseen.right_side)).sum())
        return error

    return min(strengths, key=error_of_unseen)


def _judged(equation: MatrixEquation, penalty: Tensor, change: Tensor) -> Solution:
    right_side = equation.right_side
    residual = right_side - equation.apply(change) - penalty * change
    return Solution(change, _relative(residual, right_side))


def _inner(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(dim=(1, 2), keepdim=True)


def _relative(residual: Tensor, right_side: Tensor) -> float:
    norms = (residual.flatten(1).norm(dim=1), right_side.flatten(1).norm(dim=1))
    return float(torch.where(norms[1] > 0, norms[0] / norms[1], 0.0).max())


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; 0 where the denominator is negligible beside its largest within a matrix."""
    least = NEGLIGIBLE * denominator.abs().amax(dim=(-2, -1), keepdim=True)
    usable = denominator.abs() > least
    return torch.where(usable, numerator / torch.where(usable, denominator, 1.0), 0.0)
