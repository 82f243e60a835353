"""JCAR's loss: every output of a unit counts relative to its own float energy."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.families.base import State
from carsam.methods.base import Unit

VANISHING = 1e-30
"""Outputs of less energy are zero as far as float32 goes; their error is not relative to it."""


class JointLoss:
    """Squared error of a unit's outputs, summed over channels, averaged over tokens; 0 or more.

    Each output's error is divided by its own float energy, the mean over all images, so that the
    two outputs of JCAR's joint unit, tokens and image, weigh alike whatever their size. A unit
    with one output is the special case that block-wise reconstruction knows.

    Args:
        unit: whose float outputs are the targets.
    """

    def __init__(self, unit: Unit) -> None:
        self._names = unit.plan.outputs
        energies: dict[str, Any] = {name: 0.0 for name in self._names}
        for target in unit.targets:
            for name in self._names:
                energies[name] = energies[name] + target[name].square().mean()
        means = {name: energy / len(unit.targets) for name, energy in energies.items()}
        self._energies: dict[str, Any] = {
            name: torch.where(mean > VANISHING, mean, 1.0) for name, mean in means.items()
        }

    def __call__(self, outputs: State, targets: State) -> Tensor:
        """Return the loss of one image."""
        parts = [
            F.mse_loss(outputs[name], targets[name])
            / self._energies[name]
            * targets[name].shape[-1]
            for name in self._names
        ]
        return torch.stack(parts).sum()
