"""The quickstart: draw the masks of the bundled models, quantize anew, measure all of them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carsam.calibration.quantize import quantize
from carsam.engines.base import Engine
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.evaluation.evaluate import evaluate
from carsam.evaluation.result import EvaluationResult
from carsam.formats.bundled import FOLDER
from carsam.formats.checkpoint import update_manifest
from carsam.formats.files import check_writable
from carsam.formats.folders import whole_folder
from carsam.images.drawing import save_picture
from carsam.images.scenes import write_scenes
from carsam.progress import Progress
from carsam.quickstart.photos import installed_photos
from carsam.quickstart.side_by_side import (
    Example,
    coco_examples,
    photo_examples,
    side_by_side,
)
from carsam.quickstart.summary import markdown, summarize
from carsam.simulation.model import QuantizedModel

MODEL = "sam-mini"
BUNDLED = "sam-mini-w4a4"
FAST_RECIPE = "repq-vit"
"""Of the model that is made here: what the bundled one was made with takes ten times as long."""

CALIBRATION_IMAGES = 8
EVALUATION_IMAGES = 12
SCENE_SIZE = 512
SHADES = 32
"""Of red, green and blue in the picture; with all 256 its file is twice as large."""

EVALUATION_SEED = 1_000_000
"""Seed of the first scene to evaluate on; those to calibrate on count up from the user's seed."""

RUN, PICTURE = "run", "side_by_side.png"
SUMMARY, SUMMARY_TEXT = "summary.json", "summary.md"


@dataclass(frozen=True)
class ImageSet:
    """Images to calibrate on and images to evaluate on, each with their COCO json."""

    calibration: Path
    calibration_coco: Path
    evaluation: Path
    coco: Path


def quickstart(
    folder: Path,
    progress: Progress,
    images: Path | None = None,
    coco: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
) -> dict[str, Any]:
    """Draw and measure sam-mini, its bundled 4-bit form, and one that is quantized here.

    Args:
        folder: gets the quantized model, the results, a summary and a picture.
        progress: hears of every step.
        images: photos to draw, to calibrate on and to evaluate on. Unless given, those of the
            extra `photos` are drawn where they are installed, and procedural scenes serve for
            everything else.
        coco: COCO instances json of `images`; given with it.
        seed: chooses the calibration images.
        device: `auto`, `cpu` or `cuda`, for torch.
        force: replace the folder of an earlier quickstart.

    Returns:
        What `summary.json` holds.

    Raises:
        UserError: the folder exists, only one of `images` and `coco` is given, or one is unusable.
    """
    if (images is None) != (coco is None):
        raise UserError("Photos and annotations belong together; give both --images and --coco.")
    with _written_whole(folder, force) as partial:
        if images is None or coco is None:
            image_set = _scenes(partial / "scenes", seed, progress)
            examples = photo_examples(installed_photos())
        else:
            image_set = ImageSet(images, coco, images, coco)
            examples = []
        examples = examples or coco_examples(image_set.coco, image_set.evaluation)
        float_engine, bundled = load(MODEL, device=device), load(FOLDER / BUNDLED, device=device)
        progress.info("Drawing masks")
        _draw({"float": float_engine, "4 bits": bundled}, examples, partial / PICTURE)
        run = partial / RUN
        _quantize(image_set, seed, device, progress).save(run)
        results = {
            name: _measured(engine, float_engine, name, image_set, seed, progress)
            for name, engine in ((BUNDLED, bundled), (RUN, load(run, device=device)))
        }
        summary = summarize(MODEL, results, {BUNDLED: FOLDER / BUNDLED, RUN: run})
        update_manifest(run, {"metrics": {"quickstart": summary["models"][RUN]}})
        _write(summary, results, partial)
    return summary


def next_commands(folder: Path, command: str = "carsam") -> list[str]:
    """Return commands that continue from the quickstart's folder; `command` calls carsam."""
    return [
        f"{command} predict {BUNDLED} PHOTO.jpg --box 100,80,400,360 --out mask.png",
        f"{command} info {folder / RUN}",
        f"{command} quantize {MODEL} --images PHOTOS --out runs/w4a4",
    ]


def _draw(engines: Mapping[str, Engine], examples: list[Example], path: Path) -> None:
    picture = side_by_side(engines, examples)
    step = 255 / (SHADES - 1)
    shades = [round(round(value / step) * step) for value in range(256)]
    save_picture(picture.point(shades * 3), path)


def _quantize(images: ImageSet, seed: int, device: str, progress: Progress) -> QuantizedModel:
    return quantize(
        MODEL,
        images.calibration,
        FAST_RECIPE,
        coco=images.calibration_coco,
        count=CALIBRATION_IMAGES,
        seed=seed,
        device=device,
        progress=progress,
    )


def _measured(
    engine: Engine,
    float_engine: Engine,
    name: str,
    images: ImageSet,
    seed: int,
    progress: Progress,
) -> EvaluationResult:
    return evaluate(
        engine,
        images.coco,
        images.evaluation,
        float_engine=float_engine,
        model=name,
        limit=EVALUATION_IMAGES,
        seed=seed,
        progress=progress,
    )


def _write(
    summary: Mapping[str, Any], results: Mapping[str, EvaluationResult], folder: Path
) -> None:
    for name, result in results.items():
        result.save(folder / f"{name}.json")
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    text = f"{markdown(summary)}\n![masks side by side]({PICTURE})\n"
    (folder / SUMMARY_TEXT).write_text(text, encoding="utf-8")


def _scenes(folder: Path, seed: int, progress: Progress) -> ImageSet:
    """Draw procedural scenes; those to evaluate on have other seeds than those to calibrate on."""
    progress.start("Drawing scenes", 2)
    calibration = write_scenes(folder / "calibration", CALIBRATION_IMAGES, seed, SCENE_SIZE)
    progress.advance(note="to calibrate on")
    evaluation = write_scenes(
        folder / "evaluation", EVALUATION_IMAGES, EVALUATION_SEED + seed, SCENE_SIZE
    )
    progress.advance(note="to evaluate on")
    progress.finish()
    return ImageSet(
        calibration.parent / "images", calibration, evaluation.parent / "images", evaluation
    )


@contextmanager
def _written_whole(folder: Path, force: bool) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` once everything is in it."""
    if folder.exists() and not force:
        raise UserError(f"{folder} exists already. Name another with --out, or pass --force.")
    if folder.exists() and not (folder / SUMMARY).exists():
        raise UserError(
            f"{folder} holds no quickstart, so --force does not replace it. "
            "Name another folder with --out."
        )
    check_writable(folder.parent / f".{folder.name}", "Name another folder with --out.")
    with whole_folder(folder) as partial:
        yield partial
