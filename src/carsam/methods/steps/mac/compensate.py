"""MatMul-aware compensation (MAC): projections learn the error of the other operand.

CAR-SAM (Wen et al., CVPR 2026, arXiv 2605.16901); the equations are in
`methods/steps/mac/equations.py` and docs/methods.md.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from carsam.errors import UserError
from carsam.families.base import SiteType
from carsam.methods.base import Unit, UnitStep
from carsam.methods.order import ALL, Outcome
from carsam.methods.steps.mac.attention_equations import score_equation, value_equation
from carsam.methods.steps.mac.compensated_attention import CompensatedAttention
from carsam.methods.steps.mac.solvers import SOLVERS, cross_validated, solve_exact, solve_ridge
from carsam.simulation import slots

ROUGH = 1e-3  # residual of solutions that are only compared


@dataclass(frozen=True)
class Compensate(UnitStep):
    """Change the projections of attentions so that their quantized products come out right.

    The float query projection makes up for the rounding of the keys, then the key projection for
    that of the new queries, then the value projection for that of the probabilities. A change
    stays only if the error of what leaves the attention, ||A V - A^ V^||^2, falls with every
    operand on its new grid. The grids are those that the recipe's later steps are going to set;
    these steps are asked for them. Attentions whose query, key and value come from one layer
    (SAM's encoder, where relative positions make every query's keys differ) are left alone, and so
    are those whose queries and keys are rotated by their places (SAM 2's memory): what the
    projections do there differs from token to token. The notes name the latter.

    Args:
        projections: letters of the projections to change: q, k, v.
        solver: `exact` for all samples at once, `pooled` for one Sylvester equation of pooled
            statistics, `sylvester` for the mean of the samples' own solutions.
        strength: least penalty on changes, relative to the operator's mean eigenvalue.
        strengths: how many penalties to choose from, each ten times the one before, by what the
            changes found on half of the samples do for the other half. A change that was not
            accepted is tried again with the next.
        centre: ignore what softmax ignores, a constant added to a query's scores.
        weighted: weigh scores in the equations of queries and keys by how much softmax passes on,
            A (1 - A).
        asymmetric: let the equations have the projections' inputs of the quantized path, rounded,
            and weights rounded to nearest, so that they make up for these errors as well; a
            change is then accepted by the error that all of it makes together.
        sweeps: how often the query and key projections are gone through.
        memory: gigabytes of inputs that are remembered, in memory or on the temporary disk; beyond
            it they are computed again. What leaves the float attention is kept besides.
    """

    projections: str = "qkv"
    solver: str = "exact"
    strength: float = 1e-2
    strengths: int = 4
    centre: bool = True
    weighted: bool = False
    asymmetric: bool = False
    sweeps: int = 1
    memory: float = 2.0
    precedes = ALL

    def __post_init__(self) -> None:
        if not self.projections or set(self.projections) - set("qkv"):
            raise UserError(
                f'Projections "{self.projections}" are not understood; expected letters of qkv.'
            )
        if self.solver not in SOLVERS:
            raise UserError(
                f"Solver {self.solver} is not known; expected one of {', '.join(SOLVERS)}."
            )
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise UserError(f"Strength is {self.strength}; expected a positive number.")
        for name in ("sweeps", "strengths"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected at least 1.")

    @property
    def needs_quantized_path(self) -> bool:
        """Whether inputs of the quantized path are read."""
        return self.asymmetric

    @property
    def makes(self) -> frozenset[Outcome]:
        """Weights that fit grids, of attentions and perhaps of inputs, that are still to be set."""
        made = {Outcome.COMPENSATION}
        return frozenset(made | ({Outcome.INPUT_COMPENSATION} if self.asymmetric else set()))

    def run_(self, unit: Unit) -> None:
        """Change the unit's attentions, and the statistics of the operands that changed.

        `unit.notes` gets one entry per projection: errors relative to the energy of the float
        product.
        """
        compensated = []
        for site, bits in unit.sites:
            if site.attention is not None and site.attention.rotated:
                reason = "queries and keys are rotated by their places"
                unit.notes.append({"step": "compensate", "site": site.path, "left_alone": reason})
            elif (
                site.type is SiteType.ATTENTION
                and bits.activations is not None
                and slots.projections(unit.model, site)
            ):
                attention = CompensatedAttention(
                    unit, site, bits.activations, self.asymmetric, self.memory
                )
                for note in self._compensate_(attention):
                    unit.notes.append({"step": "compensate", "site": site.path, **note})
                attention.forget()
                compensated.append(attention)
        for attention in compensated:  # only now: all of them read the unit while it is float
            attention.write_(unit)

    def _compensate_(self, attention: CompensatedAttention) -> Iterator[dict[str, Any]]:
        """Go through the projections in Gauss-Seidel order: each sees the changes before it."""
        solver = SOLVERS[self.solver]
        for _ in range(self.sweeps):
            for letter, operand in (("q", "query"), ("k", "key")):
                if letter in self.projections:
                    equation = score_equation(attention, operand, self.centre, self.weighted)
                    yield self._try_(attention, operand, equation, solver)
        if "v" in self.projections:
            yield self._try_(attention, "value", value_equation(attention), solve_ridge)

    def _try_(
        self, attention: CompensatedAttention, operand: str, equation: Any, solver: Any
    ) -> dict[str, Any]:
        """Try changes of ever stronger penalty until one stays; return the last one's note."""
        columns = attention.first.exact.weights[operand][0].shape[1]  # channels, without the bias
        strengths = [self.strength * 10**power for power in range(self.strengths)]
        # A rough solution is enough to choose among powers of ten, and takes a third of the time.
        rough = partial(solver, tolerance=ROUGH) if solver is solve_exact else solver
        first = cross_validated(equation, rough, strengths, columns)
        note: dict[str, Any] = {}
        for strength in strengths[strengths.index(first) :]:
            solution = solver(equation, equation.penalty(strength, columns))
            note = attention.try_(operand, solution.change)
            note |= {"strength": strength, "residual": solution.residual}
            if note["accepted"]:
                break
        return note
