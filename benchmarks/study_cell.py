"""One cell of a study, in a process of its own: `python study_cell.py CELL.json`.

A cell is the float answers of one model, or one row, mode and seed: quantize, prove strictness,
measure the agreement with the float answers, look at the attention. `study.py` makes the cells."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study_answers import agreement_with, float_answers
from study_images import StudyImage, images_of
from study_looks import look
from study_rows import FLOAT_ENCODER, StudyRow, recipe_of

from carsam.calibration.quantize import calibrate
from carsam.calibration.record import Calibration
from carsam.engines.base import Embedding, Engine
from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine
from carsam.evaluation.strict import assert_strict
from carsam.families import load_model
from carsam.formats.files import write_whole
from carsam.images.read import read_image
from carsam.predict.embeddings import EmbeddingCache
from carsam.simulation.model import QuantizedModel
from carsam.threads import set_threads

STRICT_IMAGES = 1


@dataclass(frozen=True)
class StudyCell:
    """What one process does.

    Args:
        model: a float model, as `carsam quantize` takes it.
        row: None for the float answers.
        mode: of `study_rows.MODES`.
        seed: of calibration.
        bits: such as `w4a4`.
        settings: `step.parameter=value`, of every row that has the step.
        float_encoder: only the decoder is quantized, and its embeddings are encoded once.
        data: folder of `study_images.py`, with `coco/annotations/calib.json` to calibrate on.
        part: of `study_images.PARTS`.
        count: calibration images.
        clicks: share of the prompts that calibrate which are clicks.
        limit: images of the part to use; None for all.
        threads: to compute with.
    """

    model: str
    row: StudyRow | None
    mode: str
    seed: int
    bits: str
    settings: tuple[str, ...]
    float_encoder: bool
    data: str
    part: str
    count: int
    clicks: float
    limit: int | None
    threads: int

    @property
    def name(self) -> str:
        """File name of the cell's result, without its ending."""
        if self.row is None:
            return self.float_name
        row = "-".join("".join(c if c.isalnum() else " " for c in self.row.name).split())
        return f"{Path(self.model).name}-{row}-{self.mode}-seed{self.seed}"

    @property
    def float_name(self) -> str:
        """The same of the model's float answers."""
        return f"{Path(self.model).name}-float"

    @property
    def facts(self) -> dict[str, Any]:
        """All that decides the result, as json; not the folders of this machine."""
        facts = {**asdict(self), "model": Path(self.model).name}
        del facts["data"]
        return json.loads(json.dumps(facts))

    def images(self) -> list[StudyImage]:
        """Return the images to measure on."""
        return images_of(self.part, Path(self.data))[: self.limit]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "StudyCell":
        """Undo `asdict`, after json has made lists of tuples."""
        row = None if data["row"] is None else StudyRow(**data["row"])
        return cls(**{**data, "settings": tuple(data["settings"]), "row": row})


def run_cell(cell: StudyCell, folder: Path) -> dict[str, Any]:
    """Do the cell's work and return its result; embeddings are kept in `folder`."""
    set_threads(cell.threads)
    family, module = load_model(cell.model)
    whole = TorchEngine(family, module, "float")
    cache = EmbeddingCache(folder / "embeddings")

    def embed(pixels: np.ndarray) -> Embedding:
        return cache.encode(whole, pixels)

    images = cell.images()
    result: dict[str, Any] = {"cell": cell.facts}
    if cell.row is None:
        return {**result, "answers": float_answers(whole, embed, images)}
    answers = json.loads((folder / "cells" / f"{cell.float_name}.json").read_bytes())["answers"]
    quantized = _quantize(cell, cell.row)
    result["recipe"] = quantized.provenance["recipe"]
    result["seconds"] = quantized.provenance["calibration"]["seconds"]
    if cell.mode == "strict":
        assert_strict(quantized, [read_image(image.path) for image in images[:STRICT_IMAGES]])
        engine: Engine = NativeEngine(quantized.to_checkpoint(), cell.threads)
    else:
        engine = TorchEngine(family, quantized.module, quantized.mode)
        torch.manual_seed(cell.seed)  # each value passes in float at random
    result |= agreement_with(
        answers, engine, embed if cell.float_encoder else engine.encode, images
    )
    picture = None if cell.seed else folder / "pictures" / f"{cell.name}.png"
    return result | look(quantized, module, images, picture)


def _quantize(cell: StudyCell, row: StudyRow) -> QuantizedModel:
    rules = (FLOAT_ENCODER,) if cell.float_encoder else ()
    recipe = recipe_of(row, cell.mode, cell.bits, rules, cell.settings)
    coco = Path(cell.data) / "coco"
    calib = coco / "annotations" / "calib.json"
    images = coco / json.loads(calib.read_bytes())["info"]["image_folder"]
    record = Calibration(
        images,
        calib,
        count=cell.count,
        exact=True,
        clicks=cell.clicks,
        seed=cell.seed,
        device="cpu",
    )
    return calibrate(cell.model, recipe, record)


def main() -> None:
    """Read a cell from the file named, write its result beside it, whole or not at all."""
    path = Path(sys.argv[1])
    cell = StudyCell.from_json(json.loads(path.read_bytes()))
    result = run_cell(cell, path.parents[1])
    write_whole(path.with_name(f"{cell.name}.json"), json.dumps(result) + "\n", "Make room.")


if __name__ == "__main__":
    main()
