"""How COCO AP depends on the number of images, and how often the 95 % interval holds.

    python benchmarks/interval_coverage.py instances.json [more.json ...]

Takes the images of all jsons (complete annotations, no image twice) as the world and the ellipse
in every ground-truth box, with a score that follows its IoU, as the model. Draws samples of
images, and asks how often a sample's interval holds the mean AP of such samples and the AP of the
world. The numbers go to benchmarks/results/interval_coverage.json.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from provenance import provenance

from carsam.evaluation.bootstrap import centred_interval, resample_weights
from carsam.evaluation.coco import coco_metrics
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.matching import MatchTable, average_precision
from carsam.evaluation.shapes import inscribed_ellipse, shape_predictions

SIZES, SAMPLES, RESAMPLES = (50, 100, 200), 100, 100
SCORE_NOISE = {"iou": 0.1, "constant": None}
RESULT = Path(__file__).parent / "results" / "interval_coverage.json"


def join(parts: list[CocoData]) -> CocoData:
    """Return the images and annotations of all parts."""
    images = sorted((image for part in parts for image in part.images), key=lambda item: item.id)
    annotations = sorted(
        (item for part in parts for item in part.annotations), key=lambda item: item.id
    )
    return CocoData(tuple(images), tuple(annotations), parts[0].category_ids)


def coverage(matches: MatchTable, world: int, size: int, generator: np.random.Generator) -> dict:
    """Return mean AP of samples of `size` out of `world` images, and what their intervals hold."""
    samples = np.zeros((SAMPLES, world), np.int64)
    for sample in samples:
        sample[generator.choice(world, size, replace=False)] = 1
    estimates = average_precision(matches, samples)
    (world_ap,) = average_precision(matches, np.ones((1, world), np.int64))
    holds_mean, holds_world, unmoved_holds_mean = [], [], []
    for seed, (sample, estimate) in enumerate(zip(samples, estimates, strict=True)):
        weights = np.zeros((RESAMPLES, world), np.int64)
        weights[:, sample > 0] = resample_weights(size, RESAMPLES, seed)
        resampled = average_precision(matches, weights)
        interval = centred_interval(resampled, float(estimate))
        assert interval is not None
        holds_mean.append(interval[0] <= estimates.mean() <= interval[1])
        holds_world.append(interval[0] <= world_ap <= interval[1])
        lower, upper = np.quantile(resampled, [0.025, 0.975])
        unmoved_holds_mean.append(lower <= estimates.mean() <= upper)
    return {
        "mean_ap": float(estimates.mean()),
        "deviation": float(estimates.std()),
        "interval_holds_mean_ap_of_samples": float(np.mean(holds_mean)),
        "interval_holds_ap_of_world": float(np.mean(holds_world)),
        "unmoved_percentiles_hold_mean_ap_of_samples": float(np.mean(unmoved_holds_mean)),
    }


def main(paths: list[Path]) -> None:
    data = join([read_coco(path) for path in paths])
    shapes = shape_predictions(data, inscribed_ellipse)
    result = {**provenance("numpy", "faster-coco-eval"), "world": len(data.images)}
    result |= {"samples": SAMPLES, "resamples": RESAMPLES, "scores": {}}
    for score, noise in SCORE_NOISE.items():
        generator = np.random.default_rng(0)
        predictions = shapes
        if noise is not None:
            predictions = [
                dataclasses.replace(shape, score=shape.iou + generator.normal(0, noise))
                for shape in shapes
            ]
        metrics = coco_metrics(data, predictions)
        result["scores"][score] = {"world_ap": metrics.numbers["AP"]} | {
            str(size): coverage(metrics.matches, len(data.images), size, generator)
            for size in SIZES
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["scores"], indent=2))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
