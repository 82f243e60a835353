"""AP and mean IoU of the filled ground-truth box and of its ellipse: what a model has to beat.

    python benchmarks/shape_baselines.py instances_val2017.json

All masks score 1. The numbers go to benchmarks/results/shape_baselines_<json's name>.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
from provenance import provenance

from carsam.evaluation.agreement import mean_by_size
from carsam.evaluation.coco import coco_metrics
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.shapes import SHAPES, Shape, shape_predictions

RESULTS = Path(__file__).parent / "results"


def measure(data: CocoData, shape: Shape) -> dict:
    """Return COCO's numbers and the mean IoU of one shape, in fractions."""
    predictions = shape_predictions(data, shape)
    ious = np.array([prediction.iou for prediction in predictions])
    sizes = [prediction.annotation.size for prediction in predictions]
    return {
        "coco": coco_metrics(data, predictions).numbers,
        "mean_iou": float(ious.mean()),
        "mean_iou_by_size": mean_by_size(ious, sizes),
        "instances": len(predictions),
    }


def main(path: Path) -> None:
    data = read_coco(path)
    result = {
        **provenance("numpy", "faster-coco-eval"),
        "images": len(data.images),
        "ids_sha256": data.ids_sha256(),
        "shapes": {name: measure(data, shape) for name, shape in SHAPES.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"shape_baselines_{path.stem}.json"
    target.write_text(json.dumps(result, indent=2) + "\n")
    for name, numbers in result["shapes"].items():
        print(f"{name:8} AP {numbers['coco']['AP']:.4f}   mean IoU {numbers['mean_iou']:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
