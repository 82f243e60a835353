"""How masks are ranked for AP: the score rules."""

from collections.abc import Callable
from dataclasses import dataclass

from carsam.errors import UserError
from carsam.evaluation.prompts import PromptKind, Request


@dataclass(frozen=True)
class ScoreRule:
    """A rule that gives a mask its score, from the request and the predicted IoU."""

    name: str
    score: Callable[[Request, float], float]
    needs_detector: bool = False


def detector_times_iou(request: Request, predicted_iou: float) -> float:
    """Return detector score x predicted IoU, as PTQ4SAM's evaluation does with `use_sam_iou`."""
    assert request.detector_score is not None
    return request.detector_score * predicted_iou


SCORE_RULES = {
    rule.name: rule
    for rule in (
        ScoreRule("predicted-iou", lambda request, predicted_iou: predicted_iou),
        ScoreRule("constant", lambda request, predicted_iou: 1.0),
        ScoreRule("detector-times-iou", detector_times_iou, needs_detector=True),
    )
}


def score_rule(name: str, kind: PromptKind) -> ScoreRule:
    """Return the rule of that name; UserError if it is unknown or does not suit the prompts."""
    if name not in SCORE_RULES:
        raise UserError(f"Unknown score {name!r}; expected one of {', '.join(SCORE_RULES)}.")
    rule = SCORE_RULES[name]
    if rule.needs_detector and not kind.from_detections:
        raise UserError(
            f"Score {name!r} needs a detector's scores, found prompts {kind.name!r}. "
            "Use prompts 'detections', or score 'predicted-iou'."
        )
    return rule
