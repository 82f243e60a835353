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

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class MatrixEquation:
    """The samples' second-order statistics; scores are never formed.

    Args:
        factors: X_s (samples, rows, n), or G_s (samples, n, n) if these are fewer rows.
        squared: whether they are G_s.
        moments: (samples, h, n, e), X_s' L_s, and for L^ in the next d columns X_s' (L^_s - L_s).
        grams: (samples, h, d, d), B_s.
        errors: (samples, h, e, d), (R^_s - R_s)' R^_s, and for L^ in the next d rows B_s.
    """

    factors: Tensor
    squared: bool
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
        squared = inputs.shape[1] > inputs.shape[2]
        factors = inputs.mT @ inputs if squared else inputs
        return cls(factors, squared, moments, grams, errors)

    @classmethod
    def joined(cls, equations: Sequence["MatrixEquation"]) -> "MatrixEquation":
        """Return the equation of all samples of several equations."""
        squared = any(equation.squared for equation in equations)
        factors = [e.input_grams() if squared else e.factors for e in equations]
        rows = max(each.shape[1] for each in factors)
        padded = [  # rows of zeros add nothing to G
            F.pad(each, (0, 0, 0, rows - each.shape[1])) for each in factors
        ]
        return cls(
            torch.cat(padded),
            squared,
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
        if self.squared:
            left = self.factors.diagonal(dim1=1, dim2=2)[:, :columns].sum() / columns
        else:
            left = self.factors[:, :, :columns].square().sum() / columns
        right = self.grams.diagonal(dim1=2, dim2=3).mean(dim=(0, 2))  # (h,)
        return (strength * left * right)[:, None, None]

    def apply(self, unknown: Tensor) -> Tensor:
        """Return sum_s G_s D B_s for D (h, n, d)."""
        heads, n, d = unknown.shape
        rows = self.factors.flatten(0, 1)  # (samples * rows, n)
        products = rows @ unknown.transpose(0, 1).reshape(n, heads * d)
        products = products.view(*self.factors.shape[:2], heads, d).transpose(1, 2) @ self.grams
        if self.squared:
            return products.sum(0)
        products = rows.T @ products.transpose(1, 2).reshape(len(rows), heads * d)
        return products.view(n, heads, d).transpose(0, 1)

    @property
    def samples(self) -> int:
        """How many samples there are; those that add up exactly count as one."""
        return len(self.grams)

    def part(self, samples: slice) -> "MatrixEquation":
        """Return the equation of some of the samples."""
        return MatrixEquation(
            self.factors[samples],
            self.squared,
            self.moments[samples],
            self.grams[samples],
            self.errors[samples],
        )

    def pooled_grams(self) -> tuple[Tensor, Tensor]:
        """Return the sum of G_s (n, n) and the mean of B_s (h, d, d)."""
        if self.squared:
            return self.factors.sum(0), self.grams.mean(0)
        rows = self.factors.flatten(0, 1)
        return rows.T @ rows, self.grams.mean(0)

    def input_grams(self) -> Tensor:
        """Return G_s (samples, n, n)."""
        return self.factors if self.squared else self.factors.mT @ self.factors


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
