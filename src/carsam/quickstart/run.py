"""The quickstart: quantize the bundled model, measure it beside its float self, draw both."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carsam.calibration.quantize import quantize
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.evaluation.coco_data import read_coco
from carsam.evaluation.evaluate import evaluate
from carsam.evaluation.result import EvaluationResult
from carsam.formats.checkpoint import read_checkpoint, update_manifest
from carsam.formats.inventory import bytes_on_disk, float32_bytes
from carsam.images.drawing import save_picture
from carsam.images.scenes import write_scenes
from carsam.progress import Progress
from carsam.quickstart.side_by_side import side_by_side

MODEL = "sam-mini"
CALIBRATION_IMAGES = 32
EVALUATION_IMAGES = 24
SCENE_SIZE = 512
EVALUATION_SEED = 1_000_000
"""Seed of the first scene to evaluate on; those to calibrate on count up from the user's seed."""

RUN, RESULT, PICTURE = "run", "result.json", "side_by_side.png"
SUMMARY, SUMMARY_TEXT = "summary.json", "summary.md"
COLUMNS = ("", "float", "w4a4")


@dataclass(frozen=True)
class ImageSet:
    """Images to calibrate on, and images with a COCO json to evaluate on."""

    calibration: Path
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
    """Quantize sam-mini to W4A4, evaluate it and its float self, write everything to `folder`.

    Args:
        folder: gets the quantized model, the result, a summary and a picture.
        progress: hears of every step.
        images: photos to calibrate and evaluate on; procedural scenes unless given.
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
        else:
            read_coco(coco)  # a wrong file is refused now, not after the quantization
            image_set = ImageSet(images, images, coco)
        run = partial / RUN
        quantize(
            MODEL,
            image_set.calibration,
            count=CALIBRATION_IMAGES,
            seed=seed,
            device=device,
            progress=progress,
        ).save(run)
        engine, float_engine = load(run, device=device), load(MODEL, device=device)
        result = evaluate(
            engine,
            image_set.coco,
            image_set.evaluation,
            float_engine=float_engine,
            model=f"{MODEL} rtn w4a4",
            limit=EVALUATION_IMAGES,
            seed=seed,
            progress=progress,
        )
        result.save(partial / RESULT)
        progress.info("Drawing masks")
        engines = {"float": float_engine, "w4a4": engine}
        save_picture(side_by_side(engines, image_set.coco, image_set.evaluation), partial / PICTURE)
        summary = _summary(result, run)
        update_manifest(run, {"metrics": {"quickstart": summary["w4a4"]}})
        (partial / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        (partial / SUMMARY_TEXT).write_text(_markdown(summary), encoding="utf-8")
    return summary


def title(summary: Mapping[str, Any]) -> str:
    """Return one line on what was measured."""
    return f"{summary['model']} on {summary['images']} images, {summary['instances']} boxes"


def rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows of the summary table under `COLUMNS`."""
    lines = (
        ("arithmetic", "mode", "{}"),
        ("COCO AP", "AP", "{:.3f}"),
        ("COCO AP50", "AP50", "{:.3f}"),
        ("mean IoU", "mean_iou", "{:.3f}"),
        ("size", "megabytes", "{:.2f} MB"),
        ("time per image", "seconds_per_image", "{:.2f} s"),
    )
    table = []
    for label, key, pattern in lines:
        floats, quantized = (_shown(summary[side][key], pattern) for side in COLUMNS[1:])
        table.append((label, floats, quantized))
    return [*table, ("mask IoU with float", "", _shown(summary["mask_iou_with_float"], "{:.3f}"))]


def next_commands(folder: Path, command: str = "carsam") -> list[str]:
    """Return commands that go on from the quickstart's folder; `command` calls carsam."""
    return [
        f"{command} info {folder / RUN}",
        f"{command} predict {folder / RUN} PHOTO.jpg --box 100,80,400,360 --out mask.png",
        f"{command} quantize {MODEL} --images PHOTOS --bits w8a8 --out runs/w8a8",
    ]


def _shown(value: float | str | None, pattern: str) -> str:
    """Return a number as text; None stands for a metric no object counts for."""
    return "-" if value is None else pattern.format(value)


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
    return ImageSet(calibration.parent / "images", evaluation.parent / "images", evaluation)


def _summary(result: EvaluationResult, run: Path) -> dict[str, Any]:
    document = result.to_json()
    megabytes = {
        "float": float32_bytes(read_checkpoint(run)) / 1e6,
        "w4a4": bytes_on_disk(run) / 1e6,
    }
    sides = {
        name: {
            "AP": side["coco"]["AP"],
            "AP50": side["coco"]["AP50"],
            "mean_iou": side["mean_iou"],
            "mode": side["mode"],
            "megabytes": megabytes[name],
            "seconds_per_image": side["engine_seconds"] / result.images,
        }
        for name, side in (("float", document["float"]), ("w4a4", document))
    }
    return {
        "model": MODEL,
        "recipe": "rtn",
        "images": result.images,
        "instances": result.instances,
        "threads": result.threads,
        **sides,
        "mask_iou_with_float": document["agreement"]["mask_iou"],
    }


def _markdown(summary: Mapping[str, Any]) -> str:
    lines = [f"# {title(summary)}", "", f"| {' | '.join(COLUMNS)} |", "| --- | ---: | ---: |"]
    lines += [f"| {' | '.join(row)} |" for row in rows(summary)]
    return "\n".join([*lines, "", f"![masks side by side]({PICTURE})", ""])


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
