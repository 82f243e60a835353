"""Reconstruction of one unit: rounding and activation scales trained against the float outputs."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from carsam.errors import UserError
from carsam.families.base import ENCODER_ROLES, Site, Stage, State
from carsam.grids.draws import Draw, mixed
from carsam.methods.base import Unit, UnitStep, WholeModel
from carsam.methods.cost import CostedByStep
from carsam.methods.order import Outcome
from carsam.methods.parameters import Count, NotNegative, Positive, Share
from carsam.methods.steps.jcar.joint_loss import JointLoss
from carsam.methods.steps.jcar.parts import part_of_weights, train_parts_
from carsam.methods.steps.training.interaction import interaction_loss, interaction_stages
from carsam.simulation import slots
from carsam.simulation.layers import QuantizedLayer
from carsam.simulation.products import check_gradients, gradients_in
from carsam.simulation.trainable import LearnedGrid, SoftRounding, trainable
from carsam.system import freed_memory

Training = AbstractContextManager[tuple[list[SoftRounding], list[LearnedGrid]]]

RECORDS = 20


@dataclass(frozen=True)
class Reconstruct(CostedByStep, UnitStep):
    """QDrop's joint pass (Wei et al. 2022): AdaRound, learned scales, quantization at random.

    The loss of a unit is `JointLoss`. One step takes one image with all its prompts.

    Args:
        steps: optimiser steps; 20000 in the papers.
        encoder_share: share of them that the encoder's units take. They cost most and lose least;
            papers give all units the same, and so does every recipe here.
        rounding_rate: Adam's rate of AdaRound's variables, which have no unit; 1e-3 in the papers.
            Rate times steps is how far they can move: 20 in the papers, 30 here. A tenth of it
            leaves three weights of ten undecided, which are then rounded all at once.
        scale_rate: Adam's rate of the activation scales, relative to their start, falling to 0
            along a cosine.
        trains_weights: learn the rounding of the weights; otherwise they stay as they are.
        trains_scales: learn the scales of the activations; otherwise they stay as they are.
        keep: probability that an activation is quantized during training; 1 switches QDrop's
            dropping off, 0 leaves all activations in float.
        keep_inputs: probability that an element of the unit's input comes from the quantized
            path during training, not from the float model.
        interaction: weight of the error after the two-way blocks, run in float on the unit's
            outputs (SAQ-SAM), beside that of the outputs themselves; 0 saves these runs.
        rounding_weight: weight of AdaRound's regulariser.
        warm_up: share of the steps before the regulariser sets in.
        first_exponent, last_exponent: of the regulariser, linear over the steps after warm-up.
        gradients: `float32`, or `bfloat16` for those of products (`simulation.products`), which
            `auto` chooses where the processor multiplies it faster.
        parts_first: of a unit of several stages train each stage by itself for the first half of
            the steps; the unit's training, the other half, starts from there. What is better in
            the end is kept.
        in_turn: round a unit's stages hard in the order of execution, each after its share of the
            steps, so that those after it make up for it.
    """

    steps: Count = 300
    encoder_share: Share = 1.0
    rounding_rate: NotNegative = 0.1
    scale_rate: NotNegative = 2e-3
    trains_weights: bool = True
    trains_scales: bool = True
    keep: Share = 0.5
    keep_inputs: Share = 0.5
    interaction: NotNegative = 0.0
    rounding_weight: NotNegative = 0.01
    warm_up: Share = 0.2
    first_exponent: Positive = 20.0
    last_exponent: Positive = 2.0
    gradients: str = "auto"
    parts_first: bool = False
    in_turn: bool = False
    needs_quantized_path = True
    needs = frozenset({Outcome.GRIDS})

    @property
    def makes(self) -> frozenset[Outcome]:
        """Rounded weights, trained scales, or both."""
        made = {Outcome.ROUNDING: self.trains_weights, Outcome.TRAINING: self.trains_scales}
        return frozenset(outcome for outcome, does in made.items() if does)

    @property
    def precedes(self) -> frozenset[Outcome]:
        """Rounded weights have no rounding left to learn."""
        return self.makes - {Outcome.TRAINING}

    def __post_init__(self) -> None:
        if not (self.trains_weights or self.trains_scales):
            raise UserError("Reconstruction trains neither weights nor scales; leave it out.")
        check_gradients(self.gradients)

    def run_(self, unit: Unit) -> None:
        """Train the unit; it ends hard-rounded, on its grids, nothing dropped.

        If the loss of a unit grows, the unit is restored and rounded to nearest.
        """
        if not unit.sites:
            return
        joint_loss = JointLoss(unit)
        start = UnitWeights(unit)
        start.round_to_nearest_()
        loss_before = final_loss(unit, joint_loss)
        start.restore_()
        steps = self.steps_on(unit.plan.stages)
        starts: list[Tensor] = []
        if self.parts_first and len(unit.plan.stages) > 1 and steps > 1:
            first = replace(self, steps=steps // 2)
            starts = train_parts_(unit, lambda part: first._train_(part, JointLoss(part)))
            trained, loss_of_parts = UnitWeights(unit), final_loss(unit, joint_loss)
            start.restore_weights_()
            steps -= first.steps
        losses = replace(self, steps=steps)._train_(unit, joint_loss, starts)
        loss_after = final_loss(unit, joint_loss)
        if starts and loss_of_parts < loss_after:
            trained.restore_()
            loss_after = loss_of_parts
        if loss_after > loss_before:
            start.restore_()
            start.round_to_nearest_()
            unit.progress.warn(
                f"{unit.plan.name}: reconstruction raised the loss from {loss_before:.4g} to "
                f"{loss_after:.4g}; the unit is rounded to nearest instead."
            )
        unit.notes.append(
            {
                "step": "reconstruct",
                "unit": unit.plan.name,
                "loss_before": loss_before,
                "loss_after": loss_after,
                "kept": loss_after <= loss_before,
                "loss_by_step": _averaged(losses, RECORDS),
            }
        )

    def steps_on(self, stages: tuple[Stage, ...]) -> int:
        """Return how many steps a unit takes, at least one."""
        share = self.encoder_share if stages[0].role in ENCODER_ROLES else 1.0
        return max(1, round(share * self.steps))

    def shortened(self, steps: int) -> Self:
        """Return the step with so many steps of training, in the encoder too."""
        return replace(self, steps=steps, encoder_share=1.0)

    def _train_(
        self, unit: Unit, joint_loss: JointLoss, starts: Sequence[Tensor] = ()
    ) -> list[float]:
        """Optimise rounding and scales; return the loss of every step.

        Args:
            starts: of each rounding, `SoftRounding.start_at_`; none for the float weights.
        """
        generator = torch.Generator(_device(unit)).manual_seed(unit.seed)
        losses = []
        meeting = interaction_stages(unit) if self.interaction else ()
        with (
            torch.enable_grad(),
            gradients_in(self.gradients, _device(unit)),
            self._trainable(unit, generator) as (roundings, learned),
        ):
            factors = [grid.factor for grid in learned if self.trains_scales]
            optimizers = self._optimizers(roundings, factors)
            for rounding, shares in zip(roundings, starts, strict=bool(starts)):
                rounding.start_at_(shares)
            ends = self._ends(unit, roundings)
            for step in range(self.steps if optimizers else 0):
                for rounding, end in zip(roundings, ends, strict=True):
                    rounding.hard = step >= end
                index = _drawn_index(len(unit.inputs), generator)
                mixed = self._mixed(unit.inputs[index], unit.quantized_inputs[index], generator)
                outputs = unit.plan.run(unit.model, mixed)
                target = unit.targets[index]
                loss = joint_loss(outputs, target)
                if meeting:
                    interaction = interaction_loss(unit, meeting, outputs, target)
                    loss = loss + self.interaction * interaction
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    raise UserError(f"{unit.plan.name}: the loss is {losses[-1]} at step {step}.")
                for optimizer in optimizers:
                    optimizer.zero_grad(set_to_none=True)
                (loss + self._regulariser(roundings, ends, step)).backward()
                for optimizer in optimizers:
                    optimizer.step()
                if factors:
                    optimizers[-1].param_groups[0]["lr"] = self._scale_rate_after(step)
                freed_memory.limit()
        return losses

    def _trainable(self, unit: Unit, generator: torch.Generator) -> Training:
        """Return the context in which the unit trains; it finishes the unit when it ends."""
        sites = [site for site, _ in unit.sites]
        return trainable(unit.model, sites, self.keep, generator, self.trains_weights)

    def _scale_rate_after(self, step: int) -> float:
        return self.scale_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def _optimizers(
        self, roundings: list[SoftRounding], factors: list[torch.nn.Parameter]
    ) -> list[torch.optim.Optimizer]:
        optimizers: list[torch.optim.Optimizer] = []
        if roundings:
            alphas = [rounding.alpha for rounding in roundings]
            optimizers.append(torch.optim.Adam(alphas, lr=self.rounding_rate, fused=True))
        if factors:
            optimizers.append(torch.optim.Adam(factors, lr=self.scale_rate, fused=True))
        return optimizers

    def _ends(self, unit: Unit, roundings: list[SoftRounding]) -> list[int]:
        """Return the step from which on each rounding is hard."""
        if not self.in_turn:
            return [self.steps] * len(roundings)
        count = len(unit.plan.stages)
        ends = [round(self.steps * (number + 1) / count) for number in part_of_weights(unit)]
        return ends[: len(roundings)]  # none if weights are not trained

    def _regulariser(
        self, roundings: list[SoftRounding], ends: list[int], step: int
    ) -> Tensor | float:
        """Return the weighted regulariser, 0 for what is in its warm-up or hard."""
        parts = []
        for rounding, end in zip(roundings, ends, strict=True):
            begin = self.warm_up * end
            if begin <= step < end:
                done = (step - begin) / (end - begin)
                exponent = self.first_exponent + (self.last_exponent - self.first_exponent) * done
                parts.append(rounding.undecided(exponent))
        return self.rounding_weight * torch.stack(parts).sum() if parts else 0.0

    def _mixed(self, inputs: State, quantized: State, generator: torch.Generator) -> State:
        """Take each element from the quantized path with probability `keep_inputs`."""
        return {
            name: mixed(values, quantized[name], Draw.of(self.keep_inputs, generator))
            for name, values in inputs.items()
        }


class UnitWeights:
    """The weights and grids of a unit, or of all units, before training."""

    def __init__(self, unit: Unit | WholeModel) -> None:
        self._unit = unit
        self._weights = {
            site: (layer.layer.weight.detach().clone(), layer.weight_grid)
            for site, layer in self._layers()
        }
        self._grids = {
            (site, operand): slots.quantizer(unit.model, site, operand)
            for site, _ in unit.sites
            for operand in slots.operands(site)
        }

    def restore_weights_(self) -> None:
        """Put the weights back, with their grids."""
        for site, layer in self._layers():
            weight, layer.weight_grid = self._weights[site]
            layer.layer.weight.data.copy_(weight)

    def restore_(self) -> None:
        """Put the weights and all grids back."""
        self.restore_weights_()
        for (site, operand), grid in self._grids.items():
            slots.set_quantizer_(self._unit.model, site, operand, grid)

    def round_to_nearest_(self) -> None:
        """Round every weight that has a grid."""
        for _, layer in self._layers():
            if layer.weight_grid is not None:
                layer.round_weight_()

    def _layers(self) -> Iterator[tuple[Site, QuantizedLayer]]:
        for site, _ in self._unit.sites:
            layer = slots.weight_layer(self._unit.model, site)
            if layer is not None:
                yield site, layer


def final_loss(unit: Unit, joint_loss: JointLoss) -> float:
    """Return the unit's loss over all images along the quantized path, as it is now."""
    with torch.no_grad():
        losses = [
            float(joint_loss(unit.plan.run(unit.model, state), target))
            for state, target in zip(unit.quantized_inputs, unit.targets, strict=True)
        ]
    return sum(losses) / len(losses)


def _averaged(losses: Sequence[float], pieces: int) -> list[float]:
    """Return the means of consecutive pieces of a curve."""
    size = max(1, len(losses) // pieces)
    parts = [losses[start : start + size] for start in range(0, len(losses), size)]
    return [sum(part) / len(part) for part in parts]


def _drawn_index(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator, device=generator.device))


def _device(unit: Unit) -> torch.device:
    device: torch.device = next(unit.model.parameters()).device
    return device
