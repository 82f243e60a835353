"""How much each unit and each kind of operand harms the masks, alone and together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from carsam.diagnosis.switches import WEIGHT, Operand, SwitchedModel
from carsam.engines.base import Embedding
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.images.prompts import Prompts
from carsam.methods.units import UnitPlan
from carsam.progress import Progress

ADVICE_SHARE = 0.5


@dataclass(frozen=True)
class Harm:
    """What quantizing some operands does to the masks of the float model.

    Args:
        name: of the unit or operand.
        lost_iou: 1 - mean IoU of the masks with the float model's, in percent.
        logit_error: mean squared error of the mask logits over their mean square.
    """

    name: str
    lost_iou: float
    logit_error: float


@dataclass(frozen=True)
class Diagnosis:
    """What does the damage.

    Args:
        everything: the whole quantized model.
        alone: each unit quantized by itself.
        cumulative: the units up to and including each one, in the order of execution.
        operands: one kind of operand everywhere, by itself.
        weights_stay: all weights are the quantized model's in every row, so that `alone` and
            `operands` include their harm (see `SwitchedModel`); `weight` is their harm alone.
    """

    everything: Harm
    alone: tuple[Harm, ...]
    cumulative: tuple[Harm, ...]
    operands: tuple[Harm, ...]
    weights_stay: bool = False

    def advice(self) -> str:
        """Say in one line which units to give more bits first."""
        ranked = sorted(self.alone, key=lambda harm: harm.logit_error, reverse=True)
        total = sum(harm.logit_error for harm in ranked)
        if total == 0:
            return "No unit alone changes the masks; nothing needs more bits."
        chosen, share = [], 0.0
        for harm in ranked:
            chosen.append(harm.name)
            share += harm.logit_error / total
            if share >= ADVICE_SHARE:
                break
        worst = max(self.operands, key=lambda harm: harm.logit_error).name
        return (
            f"Keep at 8 bits first: {'; '.join(chosen)} ({100 * share:.0f} % of the units' "
            f"separate damage). The most harmful operand is {worst}."
        )


@dataclass(frozen=True)
class Case:
    """One image in the model's frame with box prompts (P, 4)."""

    pixels: np.ndarray
    prompts: Prompts


def diagnose(
    model: SwitchedModel, units: Sequence[UnitPlan], cases: Sequence[Case], progress: Progress
) -> Diagnosis:
    """Measure the harm of every unit and of every kind of operand.

    Args:
        model: with everything switchable; ends with everything on.
        units: that partition the sites.
        cases: images with prompts, at least one.

    Raises:
        UserError: no case is given.
    """
    if not cases:
        raise UserError("A diagnosis needs at least one image with a prompt.")
    engine = TorchEngine(model.family, model.module, "simulated", model.device)
    units = [unit for unit in units if model.of_sites([site for site, _ in unit.sites])]
    kinds = list(dict.fromkeys(name for _, name in model.operands))
    progress.start("Diagnosing", 2 * len(units) + len(kinds) + 2 + model.weights_stay)
    model.switch_(())
    float_engine = TorchEngine(model.family, model.reference, "float", model.device)
    reference = [_masks(float_engine, case) for case in cases]
    progress.advance(note="float")

    def harm(name: str, on: Sequence[Operand]) -> Harm:
        model.switch_(set(on))
        found = [_masks(engine, case) for case in cases]
        progress.advance(note=name)
        return Harm(name, 100 * _mean(_lost_iou, found, reference), _mean(_error, found, reference))

    before: list[Operand] = []
    alone, cumulative = [], []
    for unit in units:
        own = model.of_sites([site for site, _ in unit.sites])
        before += own
        alone.append(harm(unit.name, own))
        cumulative.append(harm(unit.name, before))
    by_kind = [harm(kind, [o for o in model.operands if o[1] == kind]) for kind in kinds]
    if model.weights_stay:
        by_kind.append(harm(WEIGHT, ()))
    everything = harm("everything", model.operands)
    progress.finish()
    return Diagnosis(
        everything, tuple(alone), tuple(cumulative), tuple(by_kind), model.weights_stay
    )


def _masks(engine: TorchEngine, case: Case) -> np.ndarray:
    embedding: Embedding = engine.encode(case.pixels)
    logits, _ = engine.decode(embedding, case.prompts, multimask_output=False)
    return logits[:, 0]  # (P, 4h, 4w)


def _mean(
    measure: Callable[[np.ndarray, np.ndarray], float],
    found: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
) -> float:
    return float(np.mean([measure(f, r) for f, r in zip(found, reference, strict=True)]))


def _lost_iou(found: np.ndarray, reference: np.ndarray) -> float:
    both = ((found > 0) & (reference > 0)).sum((1, 2))
    either = ((found > 0) | (reference > 0)).sum((1, 2))
    return float(np.mean(1 - np.where(either == 0, 1.0, both / np.maximum(either, 1))))


def _error(found: np.ndarray, reference: np.ndarray) -> float:
    return float(np.square(found - reference).mean() / np.square(reference).mean())
