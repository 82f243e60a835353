"""How far native execution agrees with simulation: codes, pixels, AP.

    python benchmarks/agreement.py instances.json IMAGES CALIBRATION_IMAGES [--model sam-mini]
        [--recipes rtn] [--bits w4a4,w4a8,w6a6,w8a8] [--count 32] [--limit 20] [--sites 4]
        [--steps 20]

Quantizes the model with every recipe at all bits, runs both engines on the images with ground-truth
boxes, and compares the codes that enter every product on the first images. `--recipes all` takes
all recipes; --steps may be small, because it does not matter here how well a recipe was trained.
The numbers go to benchmarks/results/agreement_<model>.json, one entry per recipe and bits; entries
of other recipes and bits that the file has already are kept."""

import argparse
import json
from pathlib import Path

import numpy as np
from provenance import provenance

from carsam.calibration.quantize import quantize
from carsam.diagnosis.codes import compare_codes
from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine
from carsam.evaluation import masks
from carsam.evaluation.coco import coco_metrics
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.prompts import prompt_kind
from carsam.evaluation.scores import score_rule
from carsam.evaluation.stream import Run, run_engines
from carsam.evaluation.warning_log import WarningLog
from carsam.images.preprocess import preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import read_image
from carsam.methods.recipe import Recipe
from carsam.methods.registry import CLOSING_STEPS, STEPS, make_recipe, recipe_names
from carsam.progress import make_progress
from carsam.simulation.model import QuantizedModel

RESULTS = Path(__file__).parent / "results"


def codes(
    model: QuantizedModel, engine: NativeEngine, data: CocoData, folder: Path, count: int
) -> dict:
    """Return the shares of codes that differ, over the first images, by site and operand."""
    compared: dict[str, list[int]] = {}
    furthest = 0
    for image in data.images[:count]:
        pixels, frame = preprocess(read_image(folder / image.file_name), engine.framing)
        height, width = frame.input_size
        boxes = np.array([[0, 0, width, height], [width / 4, height / 4, width / 2, height / 2]])
        prompts = Prompts(boxes=boxes.astype(np.float32))
        for found in compare_codes(model, engine, pixels, prompts):
            counts = compared.setdefault(f"{found.site} {found.operand}", [0, 0])
            counts[0] += found.differing
            counts[1] += found.codes
            furthest = max(furthest, found.furthest)
    differing, total = np.sum(list(compared.values()), axis=0)
    return {
        "images": min(count, len(data.images)),
        "operands": len(compared),
        "codes": int(total),
        "share_differing": float(differing / total),
        "furthest": furthest,
        "share_by_operand": {name: d / n for name, (d, n) in compared.items() if d},
    }


def pixels_equal(simulated: Run, native: Run) -> dict:
    """Return the share of mask pixels that are equal, over all masks and in the worst."""
    shares = [
        float((masks.decode(first.rle) == masks.decode(second.rle)).mean())
        for first, second in zip(simulated.predictions, native.predictions, strict=True)
    ]
    return {"mean": float(np.mean(shares)), "least": min(shares), "masks": len(shares)}


def measure(model: QuantizedModel, data: CocoData, folder: Path, sites: int) -> dict:
    """Return all numbers of one quantized model."""
    native = NativeEngine(model.to_checkpoint())
    simulated = TorchEngine(model.family, model.module, "simulated")
    kind = prompt_kind("boxes")
    runs, data = run_engines(
        [simulated, native],
        data,
        folder,
        kind,
        score_rule("predicted-iou", kind),
        detections={},
        log=WarningLog(),
        progress=make_progress("plain"),
        chunk=16,
        cache=None,
    )
    aps = [coco_metrics(data, run.predictions).numbers["AP"] for run in runs]
    try:
        compared: dict | str = codes(model, native, data, folder, sites)
    except ValueError as error:  # a grid that one of the engines does not multiply as integers
        compared = str(error)
    return {
        "images": len(data.images),
        "codes": compared,
        "pixels_equal": pixels_equal(*runs),
        "ap": {"simulated": aps[0], "native": aps[1]},
    }


def recipe_of(name: str, bits: str, steps: int | None) -> Recipe:
    """Return a named recipe, with as many training steps."""
    recipe = make_recipe(name, bits)
    if steps is None:
        return recipe
    kinds = {**STEPS, **CLOSING_STEPS}
    trained = {s.name for s in (*recipe.steps, *recipe.closing) if hasattr(kinds[s.name], "steps")}
    return recipe.with_parameters(f"{name}.steps={steps}" for name in sorted(trained))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("instances", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--model", default="sam-mini")
    parser.add_argument("--recipes", default="rtn")
    parser.add_argument("--bits", default="w4a4,w4a8,w6a6,w8a8")
    parser.add_argument("--count", type=int, default=32, help="calibration images")
    parser.add_argument("--limit", type=int, default=20, help="images to evaluate")
    parser.add_argument("--steps", type=int, help="of training; the recipe's own by default")
    parser.add_argument("--sites", type=int, default=4, help="images whose codes are compared")
    arguments = parser.parse_args()
    data = read_coco(arguments.instances)
    data = data.restricted({image.id for image in data.images[: arguments.limit]})
    target = RESULTS / f"agreement_{Path(arguments.model).name}.json"
    before = json.loads(target.read_text())["runs"] if target.exists() else {}
    result = {**provenance("torch", "transformers", "numpy"), "calibration": arguments.count}
    result["runs"] = before
    for recipe in recipe_names(arguments.recipes):
        for bits in arguments.bits.split(","):
            model = quantize(
                arguments.model,
                arguments.calibration,
                recipe_of(recipe, bits, arguments.steps),
                count=arguments.count,
                progress=make_progress("plain"),
            )
            numbers = measure(model, data, arguments.images, arguments.sites)
            result["runs"][f"{recipe} {bits}"] = numbers
            print(f"{recipe} {bits}: {json.dumps(numbers)}")
            RESULTS.mkdir(exist_ok=True)
            target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
