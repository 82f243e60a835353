"""Where a quantized run loses accuracy: in its encoder or its decoder, in masks or in scores.

    python benchmarks/encoder_or_decoder.py RUN --coco INSTANCES.json --images DIR [--limit N]

Float and quantized halves are put together in all four ways, and the masks of one side get the
scores of the other. Use images other than those that results are reported on. The numbers go to
benchmarks/results/encoder_or_decoder.json, or to --out.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from provenance import provenance

from carsam.engines.base import Embedding, Engine
from carsam.engines.load import load
from carsam.evaluation.agreement import agreement
from carsam.evaluation.coco import coco_metrics
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.image_files import on_disk
from carsam.evaluation.prompts import prompt_kind
from carsam.evaluation.scores import score_rule
from carsam.evaluation.stream import Prediction, run_engines
from carsam.evaluation.warning_log import WarningLog
from carsam.formats.checkpoint import read_checkpoint
from carsam.progress import make_progress

RESULT = Path(__file__).parent / "results" / "encoder_or_decoder.json"


@dataclass
class Remembering:
    """An engine that encodes the image it saw last only once."""

    engine: Engine
    _last: tuple[bytes, Embedding] = field(default=(b"", ()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def encode(self, pixels: np.ndarray) -> Embedding:
        """Return the embedding of pixels (3, S, S)."""
        key = pixels.tobytes()
        if key != self._last[0]:
            self._last = key, self.engine.encode(pixels)
        return self._last[1]


@dataclass
class Joined:
    """The encoder of one engine with the decoder of another."""

    encoder: Engine
    decoder: Engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    def encode(self, pixels: np.ndarray) -> Embedding:
        """Return the embedding of pixels (3, S, S)."""
        return self.encoder.encode(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Where a quantized run loses accuracy.")
    parser.add_argument("run")
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    source = read_checkpoint(options.run).manifest["source"]
    exact, rounded = Remembering(load(source)), Remembering(load(options.run))
    engines = {
        "float": exact,
        "quantized": rounded,
        "quantized encoder, float decoder": Joined(rounded, exact),
        "float encoder, quantized decoder": Joined(exact, rounded),
    }
    log, kind = WarningLog(options.coco, None), prompt_kind("boxes")
    data = on_disk(read_coco(options.coco, log), options.images, log, options.limit)
    runs, data = run_engines(
        list(engines.values()),
        data,
        options.images,
        kind,
        score_rule("predicted-iou", kind),
        detections={},
        log=log,
        cache=None,
        progress=make_progress(),
        chunk=16,
    )
    masks = dict(zip(engines, (run.predictions for run in runs), strict=True))
    ours, theirs = masks["quantized"], masks["float"]
    masks["quantized masks, float scores"] = _with_scores(ours, theirs)
    masks["float masks, quantized scores"] = _with_scores(theirs, ours)
    rows = {name: _row(data, predictions, theirs) for name, predictions in masks.items()}
    for name, row in rows.items():
        print(f"{name:34}", " ".join(f"{key} {value:.3f}" for key, value in row.items()))
    result = {**provenance("carsam", "torch", "numpy"), "images": len(data.images), "rows": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def _with_scores(masks: Sequence[Prediction], scores: Sequence[Prediction]) -> list[Prediction]:
    """Return predictions ranked as others are."""
    return [replace(mask, score=s.score) for mask, s in zip(masks, scores, strict=True)]


def _row(
    data: CocoData, predictions: Sequence[Prediction], floats: Sequence[Prediction]
) -> dict[str, float]:
    numbers = coco_metrics(data, predictions).numbers
    return {
        **{name: numbers[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
        "mean_iou": float(np.mean([p.iou for p in predictions if p.iou is not None])),
        "agreement": float(agreement(predictions, floats).mask_ious.mean()),
    }


if __name__ == "__main__":
    main()
