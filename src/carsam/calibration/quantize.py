"""Quantize a model after training: choose the images, run the units, say where it came from."""

import hashlib
import platform
import time
from collections.abc import Container, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from carsam.calibration.calibration_set import CalibrationSet
from carsam.calibration.loop import quantize_units_
from carsam.calibration.prompts import annotated_boxes
from carsam.calibration.unit_log import UnitLog
from carsam.engines.load import resolve_device
from carsam.engines.torch_engine import TorchEngine
from carsam.families import load_model, source_name
from carsam.images.read import sample_images
from carsam.methods.recipe import DEFAULT_RECIPE, Recipe
from carsam.methods.registry import make_recipe
from carsam.progress import Progress, Silent
from carsam.simulation.model import QuantizedModel, prepare
from carsam.system import peak_memory


def quantize(
    source: str | Path | Module,
    images: str | Path,
    recipe: str | Recipe = DEFAULT_RECIPE,
    bits: str = "w4a4",
    *,
    rules: Sequence[str] = (),
    settings: Sequence[str] = (),
    budget: str = "fast",
    coco: str | Path | None = None,
    avoid: Container[str] = (),
    count: int = 32,
    exact: bool = False,
    boxes_per_image: int = 16,
    seed: int = 0,
    device: str = "auto",
    memory: float | None = None,
    resume: str | Path | None = None,
    projects: bool = False,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a model after training; the model given is not changed.

    Args:
        source: `sam-mini`, a Hugging Face id or folder, a file of weights, or a SAM model of
            transformers.
        images: folder of calibration images.
        recipe: a recipe, or the name of one, which is then made with `bits`, `rules` and
            `settings`.
        bits: of weights and activations, as in `w4a4`; 32 means float.
        rules: `PATTERN=BITS` exceptions, by module path or kind; later ones win.
        settings: `step.parameter=value` changes of the recipe's steps.
        budget: `fast` or `paper`: steps of training.
        coco: instances json; its images are the ones to choose from, its boxes the prompts.
            Without it the float model finds boxes itself.
        avoid: file names that must not calibrate, such as those evaluated on.
        count: images to use.
        exact: refuse fewer images than `count`.
        boxes_per_image: boxes to use of one image; moved copies make up for what it lacks.
        seed: chooses images and boxes, and drives everything random.
        device: `auto`, `cpu` or `cuda`.
        memory: gigabytes of activations to keep in memory; the rest goes to the temporary disk.
        resume: the run's future folder: finished units are kept in a hidden folder beside it, and a
            run that was stopped goes on after the last of them, with the same result.
        projects: tell `progress` before the first unit how long all are going to take, and how much
            memory; a few steps of every kind of unit are tried for that.
        progress: hears how far it is.

    Raises:
        UserError: wrong input; nothing is written in any case.
        ValueError: an activation is NaN or infinite; the site is named.
    """
    progress = progress or Silent()
    started = time.monotonic()
    if isinstance(recipe, str):
        recipe = make_recipe(recipe, bits, tuple(rules), tuple(settings), budget)
    boxes = None if coco is None else annotated_boxes(coco, images, progress)
    sample = sample_images(
        images,
        count,
        seed,
        exact=exact,
        among=boxes,
        avoid=avoid,
        warn=progress.warn,
        info=progress.info,
    )
    family, model = load_model(source, progress.warn)
    recipe.check_rules((site.path, site.kind) for site in family.sites(model))
    engine = TorchEngine(family, prepare(family, model), "float", resolve_device(device))
    del model
    calibration = CalibrationSet(sample, boxes, boxes_per_image, seed)
    log = None
    if resume is not None:
        identity = _identity(engine.module, recipe, seed, calibration)
        log = UnitLog(Path(resume), identity)
    with torch.no_grad():
        states = calibration.states(family, engine, progress)
        boxes_used = sum(state["boxes"].shape[1] for state in states)
        notes = quantize_units_(
            family,
            engine.module,
            recipe,
            states,
            seed,
            views=calibration.mirrored(family, engine, states) if recipe.closing else (),
            memory=memory,
            log=log,
            projects=projects,
            progress=progress,
        )
    provenance = {
        "source": source_name(source),
        "recipe": recipe.to_dict(),
        "seed": seed,
        "calibration": {
            "images": list(sample.names),
            "count": len(sample),
            "sha256": sample.sha256,
            "prompts": "found by the float model" if coco is None else "annotated boxes",
            "boxes": boxes_used,
            "seconds": round(time.monotonic() - started, 1),
            "peak_mb": round(peak_memory() / 1e6),
            "threads": torch.get_num_threads(),
        },
        "notes": notes,
        "versions": _versions(),
        "metrics": {},
    }
    return QuantizedModel(family, engine.module, provenance)


def _identity(model: Any, recipe: Recipe, seed: int, calibration: CalibrationSet) -> dict[str, Any]:
    """Return everything that decides the result of a quantization."""
    weights = hashlib.sha256()
    for parameter in model.parameters():
        weights.update(parameter.detach().cpu().numpy().tobytes())
    boxes = {} if calibration.boxes is None else calibration.boxes
    return {
        "recipe": recipe.to_dict(),
        "seed": seed,
        "images": calibration.sample.sha256,
        "boxes": {name: boxes[name].tolist() for name in calibration.sample.names if name in boxes},
        "boxes_per_image": calibration.boxes_per_image,
        "weights": weights.hexdigest(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = ("carsam", "torch", "transformers", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
