"""Video object segmentation measured as DAVIS does it: region J and boundary F of every frame."""

from carsam.evaluation.davis.evaluate import evaluate_davis, measure_masks
from carsam.evaluation.davis.result import DavisResult

__all__ = ["DavisResult", "evaluate_davis", "measure_masks"]
