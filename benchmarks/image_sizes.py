"""What smaller inputs cost sam-mini in accuracy (`growth.py`: what they bring SAM-B in speed).

    python benchmarks/image_sizes.py DATA --cells CELLS [--recipes rtn,repq-vit]

DATA has annotations/calib.json and val_dev.json, images_train and images_dev. Accuracy is that of
`carsam compare --image-size`: the float model and each recipe at w4a4, strict, on all of val_dev
unless limited; cells that are in CELLS already are not run again. The numbers go to
benchmarks/results/image_sizes.json, or to --out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from provenance import provenance

from carsam.comparison.run import Plan, run_plan
from carsam.formats.files import write_whole
from carsam.progress import make_progress
from carsam.threads import set_threads

RESULT = Path(__file__).parent / "results" / "image_sizes.json"
BITS = "w4a4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--recipes", default="rtn,repq-vit")
    parser.add_argument("--count", type=int, default=32, help="calibration images")
    parser.add_argument("--limit", type=int, help="evaluate on so many images only")
    parser.add_argument("--model", default="sam-mini")
    parser.add_argument("--sizes", default="768,512,384")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    set_threads(options.threads)
    rows = accuracy([int(side) for side in options.sizes.split(",")], options)
    result = {
        **provenance("carsam", "torch", "transformers", "numpy"),
        "model": options.model,
        "rows": rows,
    }
    write_whole(options.out, json.dumps(result, indent=1) + "\n", "Make room.")
    for row in rows:
        print(json.dumps(row))


def accuracy(sides: list[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the accuracy of the float model and of every recipe at every size."""
    rows = []
    for side in sides:
        plan = Plan(
            options.model,
            tuple(options.recipes.split(",")),
            (BITS,),
            seeds=1,
            coco=options.data / "annotations" / "val_dev.json",
            images=options.data / "images_dev",
            calibration=options.data / "images_train",
            calibration_coco=options.data / "annotations" / "calib.json",
            count=options.count,
            settings=(),
            device="cpu",
            threads=options.threads,
            engine="native",
            limit=options.limit,
            image_size=side,
        )
        results = run_plan(plan, options.cells / str(side), make_progress("plain"))
        rows += [_accuracy_row(result) for result in results]
    return rows


def _accuracy_row(result: dict[str, Any]) -> dict[str, Any]:
    cell = result["cell"]
    row = {key: cell[key] for key in ("image_size", "recipe", "bits")}
    if "error" in result:
        return {**row, "error": result["error"]}
    found = result["evaluation"]
    return {
        **row,
        "images": found["images"],
        **{key: found["coco"][key] for key in ("AP", "APs", "APm", "APl")},
        "mean_iou": found["mean_iou"],
        "intervals": found["intervals"],
        "engine_seconds": found["engine_seconds"],
    }


if __name__ == "__main__":
    main()
