"""Train scales, codes and float parts of all units together, against the float masks."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carsam.errors import UserError
from carsam.families.base import Site, Stage, State, sites_of_stages, split_after_encoder
from carsam.formats.journal import Item
from carsam.images.clicks import are_clicks, new_clicks
from carsam.images.moved_boxes import moved_boxes
from carsam.methods.base import WholeModel, WholeModelStep
from carsam.methods.cost import CostedByStep
from carsam.methods.order import Outcome
from carsam.methods.parameters import Count, NotNegative, Positive, Share
from carsam.methods.steps.training.feature_loss import feature_loss, run_noting
from carsam.methods.steps.training.mask_loss import mask_loss, run_stages, score_loss
from carsam.methods.steps.training.reconstruct import UnitWeights
from carsam.methods.steps.training.saved_training import SavedTraining
from carsam.methods.steps.training.teacher import Teacher
from carsam.simulation import slots
from carsam.simulation.products import check_gradients, gradients_in
from carsam.simulation.trainable import trainable_scales
from carsam.system import freed_memory

MOST_JUDGED = 4
"""Prompts of an image on which the loss before and after is found."""


@dataclass(frozen=True)
class Polish(CostedByStep, WholeModelStep):
    """Train all units together, end to end, until the masks are nearest the float model's.

    It trains the scales of activations, the scale and the codes of every row of a weight, and
    what stays float: biases, norms, the decoder's own tokens and its mask head. Nothing of it costs
    anything at run time. The loss is `mask_loss` on the calibration images and other views of them;
    no label is used. One step takes one image, with some of its own boxes and clicks and some that
    are new in this step alone, which the float model answers. Of a model with a memory, some steps
    take a frame in which objects are followed; there the loss has the scores of the objects too.
    EfficientQAT (Chen et al., ACL 2025, arXiv 2407.11062) trains scales end to end after its blocks
    in the same way; codes move as in LSQ (Esser et al., ICLR 2020), with a rate at which few of
    them change.

    If the model ends farther from the float masks than it began, it is restored.

    Args:
        steps: optimiser steps.
        rate: Adam's rate of all scales, relative to their start, rising at first and falling to 0
            along a cosine; of what stays float relative to its mean size.
        rounding_rate: Adam's rate of the weights' codes, in steps of their grids; 0 leaves all
            as they are.
        prompts: that one step takes.
        features: how much the error of the decoder's features counts beside that of the masks.
        new: share of them that are new in the step, of which as many are clicks as of the image's.
        warm_up: share of the steps in which the rates rise.
        encoder: train the encoder's blocks as well; otherwise what they return is computed once.
        parameters: train what stays float beside the scales.
        gradients: `float32`, or `bfloat16` for those of products (`simulation.products`), which
            `auto` chooses where the processor multiplies it faster.
    """

    steps: Count = 800
    rate: Positive = 5e-4
    rounding_rate: NotNegative = 0.015
    prompts: Count = 6
    features: NotNegative = 0.0
    new: Share = 0.5
    warm_up: Share = 0.05
    encoder: bool = False
    parameters: bool = True
    gradients: str = "auto"

    needs = frozenset({Outcome.GRIDS, Outcome.ROUNDING})
    makes = frozenset({Outcome.TRAINING})
    needs_teacher = True
    needs_views = True

    def __post_init__(self) -> None:
        """Refuse gradients that there are not."""
        check_gradients(self.gradients)

    @property
    def changes_encoder(self) -> bool:
        """Whether the encoder is trained."""
        return self.encoder

    def kept_after(self, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Return the stages that are not trained: what they return is computed once and kept."""
        return () if self.encoder else split_after_encoder(stages)[0]

    def run_(self, whole: WholeModel) -> None:
        """Train; the model ends on its grids, with all float parts as a checkpoint keeps them."""
        if whole.teacher is None or not whole.sites:
            whole.progress.warn("Nothing to polish: no quantized unit leads to masks.")
            return
        first = self.kept_after(whole.stages)
        trained = whole.stages[len(first) :]
        starts = whole.keep(run_stages(whole.model, first, state) for state in whole.states)
        prompts = [state.get("prompts") for state in whole.states]  # a clip has none
        loss = _Loss(whole.model, trained, starts, prompts, whole.teacher)
        sites = _sites_of(whole, trained)
        parameters = _float_parameters(whole, trained) if self.parameters else []
        begin = UnitWeights(replace(whole, sites=tuple(s for s in whole.sites if s[0] in sites)))
        values = [p.detach().clone() for p in parameters]
        stopped = whole.entry.restore() if whole.entry else None
        before = stopped.document["loss_before"] if stopped else loss.mean()
        self._train_(whole, loss, sites, parameters, before, stopped)
        after = loss.mean()
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

    def _prompts(self, own: Tensor, random: np.random.Generator) -> Tensor:
        """Return the prompts (1, N, 4) of one step, from an image's own (1, P, 4)."""
        new = round(self.new * self.prompts)
        chosen = random.permutation(own.shape[1])[: self.prompts - new]
        rows = own[0].cpu().numpy()
        clicked = are_clicks(rows)
        bounds = np.concatenate([rows[:, :2].min(0), rows[:, 2:].max(0)])
        clicks = round(new * float(clicked.mean()))
        boxes = moved_boxes(rows[~clicked], new - clicks, bounds, random)
        made = np.concatenate([boxes, new_clicks(rows[~clicked], clicks, bounds, random)])
        return torch.cat([own[:, chosen], torch.from_numpy(made)[None].to(own)], dim=1)

    def _train_(
        self,
        whole: WholeModel,
        loss_of: "_Loss",
        sites: list[Site],
        parameters: list[Tensor],
        before: float,
        stopped: Item | None,
    ) -> None:
        """Train, from where a training was stopped."""
        with (
            torch.enable_grad(),
            gradients_in(self.gradients, next(whole.model.parameters()).device),
            trainable_scales(whole.model, sites) as (rows, learned),
            _requiring_gradients(parameters),
        ):
            factors = [row.factor for row in rows] + [grid.factor for grid in learned]
            codes = [row.codes.requires_grad_(self.rounding_rate > 0) for row in rows]
            optimizer = self._optimizer(factors, codes, parameters)
            training = SavedTraining(
                [*factors, *codes, *parameters],
                optimizer,
                torch.optim.lr_scheduler.LambdaLR(optimizer, self._share_of_rates),
                np.random.default_rng(whole.seed),
                whole.entry,
                {"loss_before": before},
            )
            if stopped is not None:
                training.resume_(stopped)
            whole.progress.start("Polishing", self.steps - training.done)
            while training.done < self.steps:
                self._step_(training, loss_of)
                freed_memory.limit()
                whole.progress.advance()
        whole.progress.finish()
        for parameter in parameters:
            parameter.data.copy_(parameter.data.half())  # as a checkpoint keeps it

    def _share_of_rates(self, step: int) -> float:
        """Return the share of its rates with which a step is taken.

        Adam's first steps are as long as all others, but it does not know yet which gradients
        change from image to image: at the full rates they would lose what rounding has found.
        """
        rising = min(1.0, (step + 1) / max(1.0, self.warm_up * self.steps))
        return rising * (1 + math.cos(math.pi * step / self.steps)) / 2

    def _optimizer(
        self, factors: Sequence[Tensor], codes: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [
            {"params": factors, "lr": self.rate},
            {"params": codes, "lr": self.rounding_rate},
        ]
        for parameter in parameters:
            size = float(parameter.detach().abs().mean())
            groups.append({"params": [parameter], "lr": self.rate * size})
        return torch.optim.Adam(groups, fused=True)

    def _step_(self, training: SavedTraining, loss_of: "_Loss") -> None:
        """Take one step of training, on one image."""
        random = training.random
        if not training.order:
            training.order[:] = random.permutation(len(loss_of.prompts)).tolist()
        index = training.order.pop()
        own = loss_of.prompts[index]
        prompts = None if own is None else self._prompts(own, random)
        loss = loss_of(index, prompts, self.features)
        if not bool(torch.isfinite(loss)):
            raise UserError(f"Polish: the masks' loss is {float(loss)} at step {training.done}.")
        training.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        training.optimizer.step()
        training.rates.step()
        training.after_step_(last=training.done + 1 == self.steps)


@dataclass(frozen=True)
class _Loss:
    """How far the masks of calibration images are from the float model's.

    Args:
        model: the quantized model.
        stages: its stages up to the masks that are trained.
        starts: states before them, one per image.
        prompts: the images' own, (1, P, 4) each; None for a clip, whose objects are followed.
        teacher: the float model.
    """

    model: Any
    stages: tuple[Stage, ...]
    starts: Sequence[State]
    prompts: list[Tensor | None]
    teacher: Teacher

    def __call__(self, image: int, prompts: Tensor | None, hints: float = 0.0) -> Tensor:
        """Return the loss on prompts (1, P, 4) of an image, or on the objects of a clip.

        Args:
            hints: how much the features of an image's prompts count beside its masks.
        """
        start = self.starts[image]
        expected, targets = self.teacher.answer(image, prompts)
        if prompts is None:
            outputs = run_stages(self.model, self.stages, start)
            return mask_loss(outputs, expected) + score_loss(outputs, expected)
        start = {**start, "prompts": prompts}
        outputs, features = run_noting(self.model, self.stages, start)
        loss = mask_loss(outputs, expected, are_clicks(prompts)[0])
        return loss + hints * feature_loss(features, targets) if hints else loss

    def mean(self) -> float:
        """Return the mean over all images, on a few of their own prompts."""
        with torch.no_grad():
            losses = [
                float(self(image, None if prompts is None else _few(prompts)))
                for image, prompts in enumerate(self.prompts)
            ]
        return sum(losses) / len(losses)


def _few(prompts: Tensor) -> Tensor:
    """Return at most MOST_JUDGED of prompts (1, P, 4), evenly spread."""
    judged = min(prompts.shape[1], MOST_JUDGED)
    return prompts[:, [place * prompts.shape[1] // judged for place in range(judged)]]


def _sites_of(whole: WholeModel, stages: tuple[Stage, ...]) -> list[Site]:
    """Return the quantized sites of some stages."""
    quantized = tuple(site for site, _ in whole.sites)
    members = dict(sites_of_stages(whole.stages, quantized))
    return [site for stage in stages for site in members[stage]]


def _float_parameters(whole: WholeModel, stages: tuple[Stage, ...]) -> list[Tensor]:
    """Return the parameters of some stages that are not rounded."""
    prefixes = tuple(f"{place}." for stage in stages for place in stage.places)
    layers = (slots.weight_layer(whole.model, site) for site, _ in whole.sites)
    rounded = {id(layer.layer.weight) for layer in layers if layer and layer.weight_grid}
    named = whole.model.named_parameters()
    return [p for name, p in named if name.startswith(prefixes) and id(p) not in rounded]


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
