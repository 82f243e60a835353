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
from carsam.families.base import Site, SiteType
from carsam.grids.observers import ACTIVATION_OBSERVERS, NEED_HISTOGRAM
from carsam.methods.base import Unit, UnitStep
from carsam.methods.steps.mac.compensated_attention import SOFTMAX_STEPS, CompensatedAttention
from carsam.methods.steps.mac.equations import SOLVERS, cross_validated, solve_exact, solve_ridge
from carsam.simulation import slots

ROUGH = 1e-3  # residual of solutions that are only compared


@dataclass(frozen=True)
class Compensate(UnitStep):
    """Change the projections of attentions so that their quantized products come out right.

    The float query projection makes up for the rounding of the keys, then the key projection for
    that of the new queries, then the value projection for that of the probabilities. A change
    stays only if the error of the scores, or of the attended values, falls with every operand on
    its new grid. Attentions whose query, key and value come from one layer (SAM's encoder, where
    relative positions make every query's keys differ) are left alone.

    Args:
        projections: letters of the projections to change: q, k, v.
        solver: `exact` for all samples at once, `pooled` for one Sylvester equation of pooled
            statistics, `sylvester` for the mean of the samples' own solutions.
        strength: least penalty on changes, relative to the operator's mean eigenvalue.
        strengths: how many penalties to choose from, each ten times the one before, by what the
            changes found on half of the samples do for the other half. A change that was not
            accepted is tried again with the next.
        centre: ignore what softmax ignores, a constant added to a query's scores.
        sweeps: how often the query and key projections are gone through.
        activations: observer of the grids that the following step will use.
        softmax: grid of the probabilities that the following steps will use: `uniform`, by the
            observer, `row-maximum`, or `logarithmic` of granularity 2.
        memory: gigabytes of inputs that are remembered, in memory or on the temporary disk; beyond
            it they are computed again.
    """

    projections: str = "qkv"
    solver: str = "exact"
    strength: float = 1e-2
    strengths: int = 4
    centre: bool = True
    sweeps: int = 1
    activations: str = "mse"
    softmax: str = "uniform"
    memory: float = 2.0

    def __post_init__(self) -> None:
        if not self.projections or set(self.projections) - set("qkv"):
            raise UserError(
                f'Projections "{self.projections}" are not understood; expected letters of qkv.'
            )
        if self.solver not in SOLVERS:
            raise UserError(
                f"Solver {self.solver} is not known; expected one of {', '.join(SOLVERS)}."
            )
        if self.activations not in ACTIVATION_OBSERVERS:
            raise UserError(
                f"Observer {self.activations} is not known; expected one of "
                f"{', '.join(ACTIVATION_OBSERVERS)}."
            )
        if self.softmax not in SOFTMAX_STEPS:
            raise UserError(
                f"Softmax grid {self.softmax} is not known; expected one of "
                f"{', '.join(SOFTMAX_STEPS)}."
            )
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise UserError(f"Strength is {self.strength}; expected a positive number.")
        for name in ("sweeps", "strengths"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected at least 1.")

    def reads_histogram(self, site: Site, operand: str) -> bool:
        """Tell whether the activation observer reads it, of attentions that are compensated."""
        apart = site.attention is not None and not site.attention.fused
        return apart and self.activations in NEED_HISTOGRAM

    def run_(self, unit: Unit) -> None:
        """Change the unit's attentions, and the statistics of the operands that changed.

        `unit.notes` gets one entry per projection: errors relative to the energy of the float
        product.
        """
        compensated = []
        for site, bits in unit.sites:
            if (
                site.type is SiteType.ATTENTION
                and bits.activations is not None
                and slots.projections(unit.model, site)
            ):
                attention = CompensatedAttention(
                    unit,
                    site,
                    bits.activations,
                    self.activations,
                    self.softmax,
                    self.centre,
                    self.memory,
                )
                for note in self._compensate_(attention):
                    unit.notes.append({"step": "compensate", "site": site.path, **note})
                attention.forget_inputs()
                compensated.append(attention)
        for attention in compensated:  # only now: all of them read the unit while it is float
            attention.write_(unit)

    def _compensate_(self, attention: CompensatedAttention) -> Iterator[dict[str, Any]]:
        """Go through the projections in Gauss-Seidel order: each sees the changes before it."""
        solver = SOLVERS[self.solver]
        for _ in range(self.sweeps):
            for letter, operand in (("q", "query"), ("k", "key")):
                if letter in self.projections:
                    equation = attention.score_equation(operand)
                    yield self._try_(attention, operand, equation, solver)
        attention.refit_probability_grid_()
        if "v" in self.projections:
            yield self._try_(attention, "value", attention.value_equation(), solve_ridge)

    def _try_(
        self, attention: CompensatedAttention, operand: str, equation: Any, solver: Any
    ) -> dict[str, Any]:
        """Try changes of ever stronger penalty until one stays; return the last one's note."""
        columns = attention.channels(operand)
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
