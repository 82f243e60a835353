"""Masks of any engine measured against COCO annotations, and against the float model's."""

from carsam.evaluation.evaluate import evaluate
from carsam.evaluation.result import EvaluationResult

__all__ = ["EvaluationResult", "evaluate"]
