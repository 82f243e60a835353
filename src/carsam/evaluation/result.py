"""What an evaluation found, as one json. `docs/evaluation.md` documents every key."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from carsam.evaluation.bootstrap import Interval
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.stream import Prediction
from carsam.formats.files import write_whole

NumbersByName = dict[str, float | None]


@dataclass(frozen=True)
class Accuracy:
    """One engine's numbers; fractions from 0 to 1, None where nothing counts.

    Args:
        engine: class of the engine.
        mode: of the engine: `float`, `simulated`, `native`, `legacy` or `unfinished`.
        image_size: side of its inputs, in pixels.
        coco: COCO's twelve numbers.
        mean_iou: of the used masks with the objects meant, over instances.
        mean_iou_by_size: the same for small, medium and large objects.
        mean_best_iou: of the best of the three masks of a click; None for single masks.
        intervals: 95 % intervals of `AP` and `mean_iou`.
        engine_seconds: spent inside the engine, preparing and upscaling included.
    """

    engine: str
    mode: str
    image_size: int
    coco: NumbersByName
    mean_iou: float | None
    mean_iou_by_size: NumbersByName
    mean_best_iou: float | None
    intervals: dict[str, Interval | None]
    engine_seconds: float


@dataclass(frozen=True)
class Comparison:
    """The engine beside the float engine, prompt by prompt.

    Args:
        mask_iou: mean IoU of the two masks.
        mask_iou_by_size: the same for small, medium and large objects.
        rank_correlation: Spearman's, of the predicted IoUs.
        difference: engine minus float of `AP` and `mean_iou`.
        intervals: 95 % intervals of `mask_iou`, and of the differences over the same resamples.
    """

    mask_iou: float | None
    mask_iou_by_size: NumbersByName
    rank_correlation: float | None
    difference: NumbersByName
    intervals: dict[str, Interval | None]


@dataclass(frozen=True)
class EvaluationResult:
    """Everything one evaluation found and what it was run with.

    `predictions` are the engine's masks in the order of the prompts, and `data` the images and
    objects that were run; the json has neither.
    """

    model: str
    accuracy: Accuracy
    float_accuracy: Accuracy | None
    comparison: Comparison | None
    prompts: str
    score: str
    images: int
    instances: int
    ids_sha256: str
    bootstrap: dict[str, Any]
    seconds: float
    threads: int
    peak_memory_mb: float
    versions: dict[str, str]
    warnings: list[dict[str, Any]] = field(default_factory=list)
    predictions: Sequence[Prediction] = field(default=(), repr=False)
    data: CocoData | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the result as json values."""
        numbers = asdict(replace(self, predictions=(), data=None))
        del numbers["predictions"], numbers["data"]
        document = {"format": "carsam-evaluation", "version": 1, **numbers}
        accuracy = document.pop("accuracy")
        document["float"] = document.pop("float_accuracy")
        document["agreement"] = document.pop("comparison")
        return {**document, **accuracy}

    def save(self, path: str | Path) -> None:
        """Write the json whole or not at all; an older file of that name is replaced.

        Raises:
            UserError: The file cannot be written.
        """
        text = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
        write_whole(Path(path), text, "Give a file in a folder you may write to.")
