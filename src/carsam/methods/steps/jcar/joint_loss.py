"""The error of a unit's outputs: relative to their energy, or by what it does to the masks."""

from typing import Any

import torch
from torch import Tensor

from carsam.families.base import State
from carsam.methods.base import Unit
from carsam.methods.steps.training.mask_loss import (
    mask_areas,
    mask_shares,
    run_stages,
    stages_to_masks,
)

DAMPING = 0.1
VANISHING = 1e-30
"""Outputs of less energy are zero as far as float32 goes; their error is not relative to it."""


class UnitLoss:
    """Squared error of a unit's outputs, summed over channels, averaged over tokens.

    Without effects each output's error is divided by its own float energy, so that outputs of
    different size weigh alike (JCAR's joint unit has two). With effects (`mask_effects`) w of the
    outputs' elements y it is channels * outputs * sum w (y^ - y)^2 / sum w y^2, over all outputs
    together: an output, token or channel that hardly moves the masks hardly counts.

    Args:
        unit: whose float outputs are the targets.
        effect_images: images to measure effects on; 0 leaves them out.
    """

    def __init__(self, unit: Unit, effect_images: int) -> None:
        self._names = unit.plan.outputs
        self._effects = mask_effects(unit, effect_images) if effect_images else {}
        energies: dict[str, Any] = {name: 0.0 for name in self._names}
        for target in unit.targets:
            for name in self._names:
                energies[name] = energies[name] + self._weighted(name, target[name])
        means = {name: energy / len(unit.targets) for name, energy in energies.items()}
        self._energies: dict[str, Any] = {
            name: torch.where(mean > VANISHING, mean, 1.0) for name, mean in means.items()
        }

    def __call__(self, outputs: State, targets: State) -> Tensor:
        """Return the loss of one image."""
        errors = {n: self._weighted(n, outputs[n] - targets[n]) for n in self._names}
        channels = {name: targets[name].shape[-1] for name in self._names}
        if self._effects:
            relative = sum(errors.values()) / sum(self._energies.values())
            return relative * sum(channels.values())
        parts = [errors[name] / self._energies[name] * channels[name] for name in self._names]
        return torch.stack(parts).sum()

    def _weighted(self, name: str, values: Tensor) -> Tensor:
        squares = values.square()
        if self._effects:
            return (squares * self._effects[name]).flatten(0, -3).mean(0).sum()
        return squares.mean()


def mask_effects(unit: Unit, images: int) -> dict[str, Tensor]:
    """Return how much the masks change with each element of a unit's outputs.

    Tensors are (tokens, channels), of pictures (columns, channels), and fit the outputs' last axes.

    It is the diagonal of the Gauss-Newton matrix of `mask_loss` behind the float rest of the model
    (the Fisher information of the masks' pixels): for random signs v, mean square of the gradient
    of sum v sqrt(p (1 - p) / 2 area) logit over pixels. The unit's float output is where it is
    taken; of the many elements only the products of their tokens' and channels' means are kept,
    plus a tenth of the mean of all, because few images tell little of one element. Squared
    gradients as weights are BRECQ's (Li et al., ICLR 2021).

    Args:
        unit: with the stages that follow it, in float.
        images: how many of the unit's images are looked at.

    Nothing is returned where no stage behind the unit computes masks (SAM-HQ).
    """
    rest = stages_to_masks(unit.following)
    if not rest:
        return {}
    device = next(unit.model.parameters()).device
    generator = torch.Generator(device).manual_seed(unit.seed)
    totals: dict[str, Any] = {name: 0.0 for name in unit.plan.outputs}
    for target in unit.targets[:images]:
        gradients = _gradients(unit, rest, target, generator)
        for name, gradient in gradients.items():
            totals[name] = totals[name] + gradient.square().flatten(0, -3).mean(0)
    effects = {name: _separable(total) for name, total in totals.items()}
    mean = sum(e.sum() for e in effects.values()) / sum(e.numel() for e in effects.values())
    return {name: effect + DAMPING * mean for name, effect in effects.items()}


def _gradients(
    unit: Unit, rest: Any, target: State, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the gradients of one random projection of the masks for the unit's outputs."""
    with torch.enable_grad():
        leaves = {name: target[name].detach().requires_grad_() for name in unit.plan.outputs}
        found = run_stages(unit.model, rest, {**target, **leaves})
        expected = found["masks"].detach().sigmoid()
        variance = expected * (1 - expected) / mask_areas(expected)[..., None, None]
        weights = (variance / 2 * mask_shares(expected)[:, None, None]).sqrt()
        projection = (_signs(found["masks"], generator) * weights * found["masks"]).sum()
        ious = found["ious"] / found["ious"].shape[1] ** 0.5
        projection = projection + (_signs(ious, generator) * ious).sum()
        gradients = torch.autograd.grad(projection, list(leaves.values()), allow_unused=True)
    filled = zip(leaves.items(), gradients, strict=True)
    return {name: torch.zeros_like(x) if g is None else g for (name, x), g in filled}


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    draw = torch.rand(like.shape, generator=generator, device=like.device)
    return torch.where(draw < 0.5, -1.0, 1.0)


def _separable(squares: Tensor) -> Tensor:
    """Return the product of the means over rows and over columns, of the same mean."""
    mean = squares.mean().clamp(min=torch.finfo(squares.dtype).tiny)
    return squares.mean(1, keepdim=True) * squares.mean(0, keepdim=True) / mean
