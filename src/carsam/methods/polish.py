"""A last touch to scales, codes, norms and biases, all units together, against the float masks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from carsam.errors import UserError
from carsam.families.base import ENCODER_ROLES, Site, Stage, State, sites_of_stages
from carsam.methods.base import Whole
from carsam.methods.mask_loss import mask_loss, run_stages
from carsam.methods.reconstruction import UnitWeights
from carsam.quant.trainable import trainable_scales


@dataclass(frozen=True)
class Polish:
    """Train all units together, end to end, until the masks are nearest the float model's.

    Trained are the scales of activations, the scale and the codes of every row of a weight,
    biases, and the weights of norms: nothing that costs anything at run time. The loss is
    `mask_loss` on the calibration images' own prompts; no label is used. One step takes one image
    with some of its boxes. EfficientQAT (Chen et al., ACL 2025, arXiv 2407.11062) trains scales end
    to end after its blocks in the same way; codes move as in LSQ (Esser et al., ICLR 2020), with a
    rate at which few of them leave their place.

    A model that ends farther from the float masks than it began is put back.

    Args:
        steps: optimiser steps.
        rate: Adam's rate of all scales, relative to their start, falling to 0 along a cosine; of
            biases and norms relative to their mean size.
        rounding_rate: Adam's rate of the weights' codes, in steps of their grids; 0 leaves all
            where they are.
        boxes: of an image that one step takes.
        encoder: train the encoder's blocks as well; otherwise what they return is computed once.
        parameters: train norms and biases beside the scales.
    """

    steps: int = 300
    rate: float = 2e-3
    rounding_rate: float = 0.01
    boxes: int = 8
    encoder: bool = False
    parameters: bool = True

    def run_(self, whole: Whole) -> None:
        """Train; the model ends on its grids, with all float parts as a checkpoint keeps them."""
        if not (whole.targets and whole.sites):
            whole.progress.warn("Nothing to polish: no quantized unit leads to masks.")
            return
        first, trained = self._split(whole.stages)
        starts = [run_stages(whole.model, first, state) for state in whole.states]
        sites = _sites_of(whole, trained)
        parameters = _free_parameters(whole, trained, sites) if self.parameters else []
        begin, values = UnitWeights(whole), [p.detach().clone() for p in parameters]
        before = _mean_loss(whole, trained, starts)
        self._train_(whole, trained, starts, sites, parameters)
        after = _mean_loss(whole, trained, starts)
        if not after <= before:
            begin.restore_()
            for parameter, value in zip(parameters, values, strict=True):
                parameter.data.copy_(value)
            whole.progress.warn(
                f"Polish raised the masks' loss from {before:.4g} to {after:.4g} and was undone."
            )
        whole.notes.append(
            {
                "step": "polish",
                "loss_before": before,
                "loss_after": after,
                "kept": after <= before,
            }
        )

    def _split(self, stages: tuple[Stage, ...]) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
        """Return the stages that are left alone, and those that are trained."""
        if self.encoder:
            return (), stages
        places = [place for place, stage in enumerate(stages) if stage.role in ENCODER_ROLES]
        begin = places[-1] + 1 if places else 0
        return stages[:begin], stages[begin:]

    def _some(self, start: State, target: State, generator: torch.Generator) -> tuple[State, State]:
        """Return some of an image's boxes (1, P, 4), with their masks and ious (P, M, ...)."""
        boxes = start["boxes"]
        chosen = torch.randperm(boxes.shape[1], generator=generator)[: self.boxes].to(boxes.device)
        return (
            {**start, "boxes": boxes[:, chosen]},
            {name: target[name][chosen] for name in ("masks", "ious")},
        )

    def _train_(
        self,
        whole: Whole,
        stages: tuple[Stage, ...],
        starts: list[State],
        sites: list[Site],
        parameters: list[Tensor],
    ) -> None:
        generator = torch.Generator().manual_seed(whole.seed)
        with (
            torch.enable_grad(),
            trainable_scales(whole.model, sites) as (rows, learned),
            _requiring_gradients(parameters),
        ):
            factors = [part.factor for part in (*rows, *learned)]
            codes = [row.codes.requires_grad_(self.rounding_rate > 0) for row in rows]
            groups = [
                {"params": factors, "lr": self.rate},
                {"params": codes, "lr": self.rounding_rate},
            ]
            for parameter in parameters:
                size = float(parameter.detach().abs().mean())
                groups.append({"params": [parameter], "lr": self.rate * size})
            optimizer = torch.optim.Adam(groups)
            rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            order: list[int] = []
            for step in range(self.steps):
                order = order or torch.randperm(len(starts), generator=generator).tolist()
                index = order.pop()
                start, target = self._some(starts[index], whole.targets[index], generator)
                loss = mask_loss(run_stages(whole.model, stages, start), target)
                if not bool(torch.isfinite(loss)):
                    raise UserError(f"Polish: the masks' loss is {float(loss)} at step {step}.")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rates.step()
        for parameter in parameters:
            parameter.data.copy_(parameter.data.half())  # as a checkpoint keeps it


def _sites_of(whole: Whole, stages: tuple[Stage, ...]) -> list[Site]:
    """Return the quantized sites of some stages."""
    quantized = tuple(site for site, _ in whole.sites)
    members = dict(sites_of_stages(whole.stages, quantized))
    return [site for stage in stages for site in members[stage]]


def _free_parameters(whole: Whole, stages: tuple[Stage, ...], sites: list[Site]) -> list[Tensor]:
    """Return biases of the sites, and weights and biases of the norms around them."""
    places = {site.path for site in sites}
    for stage in stages:
        if any(f"{site.path}.".startswith(f"{stage.path}.") for site in sites):
            places.add(stage.block or stage.path)
    prefixes = tuple(f"{place}." for place in places)
    named = whole.model.named_parameters()
    return [p for name, p in named if p.ndim == 1 and name.startswith(prefixes)]


@contextmanager
def _requiring_gradients(parameters: list[Tensor]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None


def _mean_loss(whole: Whole, stages: tuple[Stage, ...], starts: list[State]) -> float:
    with torch.no_grad():
        losses = [
            float(mask_loss(run_stages(whole.model, stages, start), target))
            for start, target in zip(starts, whole.targets, strict=True)
        ]
    return sum(losses) / len(losses)
