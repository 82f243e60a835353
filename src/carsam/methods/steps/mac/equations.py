"""Linear algebra of MatMul-aware compensation: one unknown matrix between two factors.

The change D of a projection's weight that best undoes the error of the other operand minimises

    sum_s || L_s R_s' - (L^_s + X_s D) R^_s' ||^2 + penalty ||D||^2

over the samples s, for every head by itself. L^ is L but for the asymmetric form, where it has
the errors of the projection's own inputs and weights. The normal equations,

    sum_s G_s D B_s + penalty D = C,   G_s = X_s' X_s,  B_s = R^_s' R^_s,
    C = - sum_s (X_s' L_s) ((R^_s - R_s)' R^_s) - sum_s (X_s' (L^_s - L_s)) B_s,

are a Sylvester equation (CAR-SAM, arXiv 2605.16901) for one sample only. Mind the minus: some
accounts of the paper print a plus, which doubles the error instead of undoing it.

Everything is float64; n columns of X, h heads of width d.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

NEGLIGIBLE = 1e-14  # of the largest eigenvalue: below it a direction carries no information


@dataclass(frozen=True)
class MatrixEquation:
    """The samples' second-order statistics; scores are never formed.

    Args:
        factors: (samples, rows, n) with factors' factors = G_s.
        moments: (samples, h, n, e), X_s' L_s, and for L^ in the next d columns X_s' (L^_s - L_s).
        grams: (samples, h, d, d), B_s.
        errors: (samples, h, e, d), (R^_s - R_s)' R^_s, and for L^ in the next d rows B_s.
    """

    factors: Tensor
    moments: Tensor
    grams: Tensor
    errors: Tensor

    @classmethod
    def from_operands(
        cls,
        inputs: Tensor,
        left: Tensor,
        right: Tensor,
        right_quantized: Tensor,
        left_error: Tensor | None = None,
    ) -> "MatrixEquation":
        """Return the equation of some samples.

        A batch of 1 on one side is shared by all samples of the other, which then add up exactly.

        Args:
            inputs: X (batch, rows, n).
            left: L (batch, h, rows, d).
            right, right_quantized: R and R^ (batch, h, others, d).
            left_error: L^ - L (batch, h, rows, d) of the asymmetric form; None for zero.
        """
        inputs, left = inputs.double(), left.double()
        right, right_quantized = right.double(), right_quantized.double()
        grams = right_quantized.mT @ right_quantized
        errors = (right_quantized - right).mT @ right_quantized
        if left_error is not None:
            left = torch.cat([left, left_error.double()], -1)
            errors = torch.cat([errors, grams], -2)
        # All heads in one product: a broadcast one would copy the inputs for each head.
        moments = inputs.mT @ left.transpose(1, 2).flatten(2)  # (batch, n, h * d)
        moments = moments.unflatten(2, (left.shape[1], -1)).transpose(1, 2)
        if len(grams) == 1:
            inputs, moments = inputs.flatten(0, 1)[None], moments.sum(0, keepdim=True)
        elif len(inputs) == 1:
            grams, errors = grams.sum(0, keepdim=True), errors.sum(0, keepdim=True)
        return cls(_fewest_rows(inputs), moments, grams, errors)

    @classmethod
    def joined(cls, equations: Sequence["MatrixEquation"]) -> "MatrixEquation":
        """Return the equation of all samples of several equations."""
        rows = max(equation.factors.shape[1] for equation in equations)
        padded = [
            F.pad(equation.factors, (0, 0, 0, rows - equation.factors.shape[1]))
            for equation in equations  # rows of zeros add nothing to G
        ]
        return cls(
            torch.cat(padded),
            torch.cat([equation.moments for equation in equations]),
            torch.cat([equation.grams for equation in equations]),
            torch.cat([equation.errors for equation in equations]),
        )

    @property
    def right_side(self) -> Tensor:
        """C (h, n, d)."""
        return -(self.moments @ self.errors).sum(0)

    def penalty(self, strength: float, columns: int) -> Tensor:
        """Return the penalty (h, 1, 1), relative to the operator's mean eigenvalue.

        Args:
            strength: 1 weighs the penalty as much as the mean eigenvalue.
            columns: how many columns of X count, from the first; a bias column should not.
        """
        left = self.factors[:, :, :columns].square().sum() / columns
        right = self.grams.diagonal(dim1=2, dim2=3).mean(dim=(0, 2))  # (h,)
        return (strength * left * right)[:, None, None]

    def apply(self, unknown: Tensor) -> Tensor:
        """Return sum_s G_s D B_s for D (h, n, d)."""
        heads, n, d = unknown.shape
        rows = self.factors.flatten(0, 1)  # (samples * rows, n)
        products = rows @ unknown.transpose(0, 1).reshape(n, heads * d)
        products = products.view(*self.factors.shape[:2], heads, d).transpose(1, 2) @ self.grams
        products = rows.T @ products.transpose(1, 2).reshape(len(rows), heads * d)
        return products.view(n, heads, d).transpose(0, 1)

    @property
    def samples(self) -> int:
        """How many samples there are; those that add up exactly count as one."""
        return len(self.grams)

    def part(self, samples: slice) -> "MatrixEquation":
        """Return the equation of some of the samples."""
        return MatrixEquation(
            self.factors[samples], self.moments[samples], self.grams[samples], self.errors[samples]
        )

    def pooled_grams(self) -> tuple[Tensor, Tensor]:
        """Return the sum of G_s (n, n) and the mean of B_s (h, d, d)."""
        rows = self.factors.flatten(0, 1)
        return rows.T @ rows, self.grams.mean(0)


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
    grams = equation.factors.mT @ equation.factors
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


@dataclass(frozen=True)
class RidgeEquation:
    """sum_s G_s D + penalty D = sum_s C_s, every head by itself.

    Args:
        grams: (samples, h, n, n).
        right_sides: (samples, h, n, d).
    """

    grams: Tensor
    right_sides: Tensor

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(self.grams)

    @property
    def right_side(self) -> Tensor:
        """sum_s C_s (h, n, d)."""
        return self.right_sides.sum(0)

    def penalty(self, strength: float, columns: int) -> Tensor:
        """Return the penalty (h, 1, 1), as `MatrixEquation.penalty` does."""
        mean = self.grams.sum(0).diagonal(dim1=1, dim2=2)[:, :columns].mean(1)
        return strength * mean[:, None, None]

    def apply(self, unknown: Tensor) -> Tensor:
        """Return sum_s G_s D for D (h, n, d)."""
        return self.grams.sum(0) @ unknown

    def part(self, samples: slice) -> "RidgeEquation":
        """Return the equation of some of the samples."""
        return RidgeEquation(self.grams[samples], self.right_sides[samples])


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


def _fewest_rows(inputs: Tensor) -> Tensor:
    """Return X, or where it has more rows than columns a square matrix of the same X' X."""
    if inputs.shape[1] <= inputs.shape[2]:
        return inputs
    values, vectors = torch.linalg.eigh(inputs.mT @ inputs)
    return values.clamp(min=0).sqrt()[..., None] * vectors.mT


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
