"""Lift the small singular values of ill-conditioned weights."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from carsam.families.base import Site, SiteType
from carsam.methods.base import Unit, UnitStep
from carsam.methods.inspecting.layer_inputs import float_layers, input_pairs
from carsam.methods.inspecting.operands import observe_again_
from carsam.methods.order import ALL, Outcome
from carsam.methods.parameters import Between, Count, NotNegative, Share
from carsam.simulation import slots
from carsam.simulation.layers import Layer


@dataclass(frozen=True)
class ReduceCondition(UnitStep):
    """AHCQ-SAM's activation-aware condition number reduction (ACNR; arXiv 2503.03088v4).

    For linears whose weight has a condition number above `limit`: with singular values q_i and
    c_i the mean square of the input's error x - x^ along the i-th input direction, `iterations`
    proximal steps of

        min over q'   (q' - q_i)^2 / 2 + attraction (q' - mean q)^2 + caution c_i q'^2

    for the values after those that hold the first `kept_energy` of the energy; no value falls.
    The directions do not change, so one decomposition serves all steps. This changes the float
    weights; later steps still aim at the original outputs.

    Where we differ: the released code counts c_i twice.

    Args:
        limit: of condition numbers that are left alone.
        iterations: proximal steps.
        attraction: to the mean of the singular values.
        caution: against values that amplify the input's error.
        kept_energy: share of the squares' sum that stays as it is.
    """

    limit: Annotated[float, Between(1)] = 100.0
    iterations: Count = 200
    attraction: NotNegative = 0.003
    caution: NotNegative = 0.001
    kept_energy: Share = 0.8
    needs_quantized_path = True
    operands = ("weight",)
    needs = spoils = frozenset({Outcome.GRIDS})
    precedes = ALL - needs

    def run_(self, unit: Unit) -> None:
        """Change the unit's ill-conditioned weights, and renew the statistics of all operands."""
        originals = float_layers(unit)
        changed = False
        for site, bits in unit.sites:
            layer = slots.weight_layer(unit.model, site)
            if site.type is not SiteType.LINEAR or layer is None or bits.weights is None:
                continue
            original = originals[site].weight.double()
            left, values, right = torch.linalg.svd(original, full_matrices=False)
            if float(values[0]) <= self.limit * float(values[-1]):
                continue
            errors = _error_energies(unit, site, originals, right)
            lifted = self.lift(values, errors)
            layer.layer.weight.copy_(left * lifted @ right)
            changed = True
            unit.notes.append(
                {
                    "step": "reduce-condition",
                    "site": site.path,
                    "before": float(values[0] / values[-1].clamp(min=1e-30)),
                    "after": float(lifted.max() / lifted.min()),
                }
            )
        if changed:
            observe_again_(
                unit,
                [
                    (site, operand)
                    for site, bits in unit.sites
                    if bits.activations is not None
                    for operand in slots.operands(site)
                ],
            )

    def lift(self, values: Tensor, errors: Tensor) -> Tensor:
        """Return the singular values (n,), falling, after all steps; errors are the c_i (n,)."""
        scale = 1 + 2 * self.attraction + 2 * self.caution * errors
        for _ in range(self.iterations):
            order = values.argsort(descending=True)
            energies = values[order].square().cumsum(0)
            kept = torch.empty_like(values, dtype=torch.bool)
            # Up to and including the value with which the energy passes its share.
            kept[order] = energies - values[order].square() <= self.kept_energy * energies[-1]
            target = (values + 2 * self.attraction * values.mean()) / scale
            values = torch.where(kept, values, torch.maximum(values, target))
        return values


def _error_energies(
    unit: Unit, site: Site, originals: dict[Site, Layer], directions: Tensor
) -> Tensor:
    """Return the mean square of x - x^ along each row of `directions` (n, K)."""
    total, rows = torch.zeros(len(directions), dtype=torch.float64, device=directions.device), 0
    for inputs, quantized in input_pairs(unit, site, originals):
        total += ((inputs - quantized) @ directions.T).square().sum(0)
        rows += len(inputs)
    return total / rows
