"""Models that have the real SAM's disease: sam-mini with SAM-B's ranges and its own float masks.

    python benchmarks/hard_models.py DATA MODELS [--only key-peaks-8,like-sam-b] [--retention]

makes each variant as a folder of MODELS that `carsam quantize` takes as a model, and a table of
what makes them hard beside sam-mini and the published numbers: `hard_models.json` and
`hard_models.md` in MODELS. What is there is not made again. `--retention` also measures how much
AP rounding to nearest keeps at 4 bits. DATA holds `coco/annotations/{calib,val_dev}.json` with
their images. docs/hard_models.md says what the edits are."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from hard_edits import apply_
from hard_statistics import statistics
from hard_table import markdown
from hard_training import outlier_keys
from provenance import provenance

from carsam.calibration.prompts import annotated_boxes
from carsam.calibration.quantize import quantize
from carsam.comparison.run import evaluated_names
from carsam.diagnosis.damage import Case
from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.evaluation.evaluate import evaluate
from carsam.families import load_model
from carsam.formats.files import write_whole
from carsam.formats.folders import whole_folder
from carsam.images.preprocess import Framing, preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import read_image
from carsam.threads import set_threads

SOURCE = "sam-mini"
SEED = 0
IMAGES = 12
BOXES = 6

EDITED: dict[str, dict[str, float]] = {
    "key-peaks-8": {"key-peaks": 8},
    "constant-channels-40": {"constant-channels": 40},
    "constant-channels-170": {"constant-channels": 170},
    "key-scales-8": {"key-scales": 8},
    "key-scales-32": {"key-scales": 32},
    "published-ranges": {"key-peaks": 8, "query-scales": 8},
    "norm-channels-8": {"norm-channels": 8},
    "norm-channels-16": {"norm-channels": 16},
    "hidden-outliers-32": {"hidden-outliers": 32},
    "hidden-outliers-64": {"hidden-outliers": 64},
    "output-means-4": {"output-means": 4},
    "like-sam-b": {
        "query-scales": 8,
        "key-peaks": 8,
        "norm-channels": 16,
        "hidden-outliers": 32,
    },
}
"""Exact edits and their strengths, by the variant's name."""

TRAINED = "outlier-keys"
"""The variant that is trained."""

TRAINING_IMAGES = 64


def make(name: str, folder: Path, data: Path) -> None:
    """Write a variant to a folder, if it is not there."""
    if folder.exists():
        return
    family, model = load_model(SOURCE)
    if name == TRAINED:
        cases = cases_of(data, "train", TRAINING_IMAGES, family.framing(model.config))
        unfinished = folder.with_name(f".{name}.training")
        model = outlier_keys(family, model, cases, SEED, unfinished)
        apply_(family, model, {}, SEED)
    else:
        apply_(family, model, EDITED[name], SEED)
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)


def cases_of(data: Path, annotations: str, count: int, framing: Framing) -> list[Case]:
    """Return the first images of a COCO json with some of their boxes."""
    file = data / "coco" / "annotations" / f"{annotations}.json"
    folder = data / "coco" / json.loads(file.read_bytes())["info"]["image_folder"]
    cases = []
    for name, boxes in sorted(annotated_boxes(file, folder).items())[:count]:
        pixels, frame = preprocess(read_image(folder / name), framing)
        cases.append(Case(pixels, Prompts(boxes=frame.map_boxes(boxes[:BOXES]))))
    return cases


def masks_of(engine: TorchEngine, cases: list[Case]) -> list[np.ndarray]:
    """Return the masks of every prompt, where the logits are above 0."""
    found = (engine.decode(engine.encode(case.pixels), case.prompts, False) for case in cases)
    return [mask > 0 for logits, _ in found for mask in logits[:, 0]]


def measure(source: str | Path, data: Path, before: list[np.ndarray] | None) -> dict[str, Any]:
    """Return the statistics of a model, and how far its masks agree with those given."""
    family, model = load_model(source)
    cases = cases_of(data, "calib", IMAGES, family.framing(model.config))
    found = statistics(family, model, cases)
    if before is not None:
        after = masks_of(TorchEngine(family, model, "float"), cases)
        pairs = list(zip(before, after, strict=True))
        ious = [(a & b).sum() / max(1, (a | b).sum()) for a, b in pairs if (a | b).any()]
        found["masks"] = {"mean": float(np.mean(ious)), "least": float(min(ious))}
    return found


def retention(source: str | Path, data: Path) -> dict[str, Any]:
    """Return AP on val_dev in float and rounded to nearest at 4 bits."""
    coco = data / "coco" / "annotations" / "val_dev.json"
    images, calibration = data / "coco" / "images_dev", data / "coco" / "images_train"
    avoid = evaluated_names(coco, images)
    calib = coco.with_name("calib.json")
    rounded = quantize(source, calibration, "rtn", "w4a4", coco=calib, avoid=avoid)
    found = {}
    for key, engine in (
        ("float_AP", TorchEngine(*load_model(source), "float")),
        ("AP", NativeEngine(rounded.to_checkpoint())),
    ):
        found[key] = evaluate(engine, coco, images, bootstrap=0).coco["AP"]
    return found


def main() -> None:
    """Make the variants that are asked for, and the table of all that were measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, help="folder for the models and the table")
    parser.add_argument("--only", help="variants, separated by commas; all unless given")
    parser.add_argument("--retention", action="store_true")
    options = parser.parse_args()
    set_threads(1)
    known = [*EDITED, TRAINED]
    wanted = options.only.split(",") if options.only else known
    if set(wanted) - set(known):
        raise UserError(f"Variants {set(wanted) - set(known)} are not known; expected {known}.")
    target = options.models / "hard_models.json"
    found = json.loads(target.read_bytes())["models"] if target.exists() else {}
    before = None
    for name in (SOURCE, *wanted):
        source = SOURCE if name == SOURCE else options.models / name
        if name != SOURCE:
            make(name, options.models / name, options.data)
        if name not in found:
            if name != SOURCE and before is None:
                family, model = load_model(SOURCE)
                cases = cases_of(options.data, "calib", IMAGES, family.framing(model.config))
                before = masks_of(TorchEngine(family, model, "float"), cases)
            found[name] = measure(source, options.data, before)
        if options.retention and "retention" not in found[name]:
            found[name]["retention"] = retention(source, options.data)
        order = {
            known_name: found[known_name] for known_name in (SOURCE, *known) if known_name in found
        }
        about = provenance("torch", "transformers", "numpy")
        content = json.dumps({**about, "models": order}, indent=1)
        write_whole(target, f"{content}\n", "Make room.")
        write_whole(target.with_suffix(".md"), markdown(order), "Make room.")
        print(f"{name}: done", flush=True)
    print(markdown(order))


if __name__ == "__main__":
    main()
