"""One cell of a comparison: quantize with one recipe, bits and seed, prove strictness, evaluate.

Run as a process of its own, whose arguments are the cell's json, how many such processes share the
machine, and the most pixels of an image, so that its peak memory is its own and a failure does not
end the comparison.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from carsam.calibration.record import Calibration
from carsam.engines.base import Engine
from carsam.formats.files import write_whole
from carsam.threads import set_threads
from carsam.video.predictor import video_engine

STRICT_IMAGES = 2


@dataclass(frozen=True)
class Cell:
    """What one process does.

    Args:
        model: float model, as `carsam quantize` takes it.
        recipe: name, or `float` to evaluate the model itself.
        bits: such as `w4a4`; `float` with recipe `float`.
        settings: `step.parameter=value` changes.
        calibration: its images and prompts, never one evaluated on; its seed and device hold for
            everything.
        coco, images: what to evaluate on.
        threads: to compute with.
        engine: evaluates the quantized model, `simulated` or `native`; a legacy one is always
            simulated.
        limit: evaluate on so many images only; None for all.
        image_size: side of the model's inputs, in pixels; None for its own.
        davis: videos with masks to follow objects through as well; None for none.
    """

    model: str
    recipe: str
    bits: str
    settings: tuple[str, ...]
    calibration: Calibration
    coco: str
    images: str
    threads: int
    engine: str
    limit: int | None
    image_size: int | None = None
    davis: str | None = None

    @property
    def name(self) -> str:
        """File name of the cell's result, without its ending."""
        return f"{self.recipe}-{self.bits}-seed{self.calibration.seed}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data that decide the result; `from_json` undoes it."""
        data = asdict(self)
        del data["calibration"]["sharers"], data["calibration"]["videos"]  # cells have no videos
        for name in ("image_size", "davis"):  # as in results made before there was a choice
            if data[name] is None:
                del data[name]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Cell":
        """Undo `to_json`, after json has made lists of tuples."""
        given = data["calibration"]
        calibration = Calibration(**{**given, "avoid": tuple(given["avoid"])})
        return cls(**{**data, "settings": tuple(data["settings"]), "calibration": calibration})


def run_cell(cell: Cell) -> dict[str, Any]:
    """Do the cell's work and return its result: cell, calibration cost, strictness, evaluation."""
    from carsam.engines.torch_video_engine import torch_engine
    from carsam.evaluation.davis import evaluate_davis
    from carsam.evaluation.evaluate import evaluate
    from carsam.evaluation.strict import assert_strict
    from carsam.families import load_model
    from carsam.images.read import read_image

    set_threads(cell.threads)
    result: dict[str, Any] = {"cell": cell.to_json()}
    engine: Engine
    if cell.recipe == "float":
        engine = torch_engine(
            *load_model(cell.model, image_size=cell.image_size), "float", cell.calibration.device
        )
    else:
        quantized = _quantize(cell)
        names = sorted(cell.calibration.avoid)[:STRICT_IMAGES]
        result["strict"] = quantized.mode != "legacy"
        if result["strict"]:
            assert_strict(quantized, [read_image(Path(cell.images) / name) for name in names])
        engine = _engine(cell, quantized)
        result["calibration"] = quantized.provenance["calibration"]
        result["notes"] = quantized.provenance["notes"]
    name = f"{cell.model} {cell.name}"
    evaluation = evaluate(engine, cell.coco, cell.images, model=name, limit=cell.limit)
    result["evaluation"] = evaluation.to_json()
    if cell.davis is not None:
        followed = evaluate_davis(video_engine(engine), cell.davis, model=name)
        result["davis"] = followed.to_json()
    return result


def _engine(cell: Cell, quantized: Any) -> Engine:
    from carsam.engines.native_video_engine import native_engine
    from carsam.engines.torch_video_engine import torch_engine

    if cell.engine == "native" and quantized.mode != "legacy":
        return native_engine(quantized.to_checkpoint(), cell.threads)
    return torch_engine(quantized.family, quantized.module, quantized.mode, cell.calibration.device)


def _quantize(cell: Cell) -> Any:
    from carsam.calibration.quantize import calibrate
    from carsam.methods.registry import make_recipe

    recipe = make_recipe(cell.recipe, cell.bits, settings=cell.settings)
    return calibrate(cell.model, recipe, cell.calibration, image_size=cell.image_size)


def main() -> None:
    """Read a cell from the file named, write its result beside it, whole or not at all."""
    path = Path(sys.argv[1])
    cell = Cell.from_json(json.loads(path.read_text()))
    if len(sys.argv) > 3:
        Image.MAX_IMAGE_PIXELS = int(sys.argv[3])
    shared = replace(cell.calibration, sharers=int(sys.argv[2]))
    content = json.dumps(run_cell(replace(cell, calibration=shared)), indent=1) + "\n"
    write_whole(path.with_suffix(".result.json"), content, "Make room.")
