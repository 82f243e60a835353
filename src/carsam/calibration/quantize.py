"""Quantize a model after training: choose the images, run the units, say where it came from."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from carsam.calibration.calibration_set import CalibrationSet, Pictures
from carsam.calibration.clips import STILLS_PER_CLIP, clips_of_stills, clips_of_videos
from carsam.calibration.identity import identity_of, versions
from carsam.calibration.loop import quantize_units_
from carsam.calibration.mask_scores import with_thresholds
from carsam.calibration.prompts import annotated_boxes
from carsam.calibration.record import Calibration
from carsam.calibration.state_lists import Joined
from carsam.calibration.unit_log import UnitLog
from carsam.calibration.video_folders import find_videos
from carsam.engines.load import resolve_device
from carsam.engines.torch_engine import TorchEngine
from carsam.engines.torch_video_engine import TorchVideoEngine, torch_engine
from carsam.errors import UserError
from carsam.families import load_model, source_name
from carsam.families.base import Family, State
from carsam.formats.folders import sole_writer
from carsam.images.clicks import are_clicks
from carsam.images.read import sample_images
from carsam.methods.recipe import DEFAULT_RECIPE, Recipe
from carsam.methods.registry import check_steps, idle_steps, make_recipe, make_whole_model_steps
from carsam.progress import Progress, Silent
from carsam.simulation.model import QuantizedModel, prepare
from carsam.system import freed_memory, peak_memory


def quantize(
    source: str | Path | Module,
    images: str | Path | None = None,
    recipe: str | Recipe = DEFAULT_RECIPE,
    bits: str = "w4a4",
    *,
    rules: Sequence[str] = (),
    settings: Sequence[str] = (),
    budget: str = "fast",
    resume: str | Path | None = None,
    projects: bool = False,
    progress: Progress | None = None,
    image_size: int | None = None,
    **calibration: Any,
) -> QuantizedModel:
    """Quantize a model after training; the model given is not changed.

    Args:
        source: `sam-mini`, a Hugging Face id or folder, a file of weights, or a SAM model of
            transformers.
        images: folder of calibration images; `videos` can take their place.
        recipe: a recipe, or the name of one, which is then made with `bits`, `rules` and
            `settings`.
        bits: of weights and activations, as in `w4a4`; 32 means float.
        rules: `PATTERN=BITS` exceptions, by module path or kind; later ones win.
        settings: `step.parameter=value` changes of the recipe's steps.
        budget: `fast` or `paper`: steps of training.
        resume, projects, progress, image_size: as of `calibrate`.
        calibration: `coco`, `avoid`, `count`, `exact`, `prompts_per_image`, `clicks`, `seed`,
            `device`, `memory`, `sharers` and `videos`, as of `Calibration`.

    Raises:
        UserError: wrong input; nothing is written in any case.
        ValueError: an activation is NaN or infinite; the site is named.
    """
    if isinstance(recipe, str):
        recipe = make_recipe(recipe, bits, tuple(rules), tuple(settings), budget)
    record = Calibration(images, **calibration)
    if resume is None:
        model = calibrate(source, recipe, record, None, projects, progress, image_size)
    else:
        with sole_writer(Path(resume)) as run:
            model = calibrate(source, recipe, record, run, projects, progress, image_size)
    return with_thresholds(model, source, record, progress)


def calibrate(
    source: str | Path | Module,
    recipe: Recipe,
    record: Calibration,
    resume: Path | None = None,
    projects: bool = False,
    progress: Progress | None = None,
    image_size: int | None = None,
) -> QuantizedModel:
    """Quantize a model with a recipe; the model given is not changed.

    Args:
        source: as of `quantize`.
        record: the images and prompts, and where the work is done.
        resume: the run's future folder, of which the caller is the sole writer: finished units are
            kept in a hidden folder beside it, and a run that was stopped goes on after the last of
            them, with the same result.
        projects: tell `progress` before the first unit how long everything is going to take, and
            how much memory; a few steps of every kind of unit are tried for that.
        progress: hears how far it is.
        image_size: side of the model's inputs, in pixels; its own unless given.

    Raises:
        UserError, ValueError: as of `quantize`.
    """
    progress = progress or Silent()
    freed_memory.keep()
    started = time.monotonic()
    check_steps(recipe)
    calibration = _calibration_set(record, progress)
    family, model = load_model(source, progress.warn, image_size)
    videos = _videos(record, family)
    sites = family.sites(model)
    recipe.check_rules((site.path, site.kind) for site in sites)
    for name in idle_steps(recipe, sites):
        progress.warn(
            f"Step {name} of recipe {recipe.name} has nothing to do: bits {recipe.bits} and the "
            "rules leave in float what it quantizes."
        )
    engine = torch_engine(family, prepare(family, model), "float", resolve_device(record.device))
    del model
    with torch.no_grad():
        states = calibration.states(family, engine, progress)
        clips = _clips(engine, calibration, states, videos, progress)
        log = None
        if resume is not None:
            identity = identity_of(engine, recipe, calibration, Joined(states, clips))
            log = UnitLog(resume, identity, progress.warn)
            _explain_others(log, progress)
        _, closing = make_whole_model_steps(recipe)
        needs_views = any(step.needs_views for step in closing)
        notes = quantize_units_(
            family,
            engine.module,
            recipe,
            states,
            record.seed,
            views=calibration.views(engine, states) if needs_views else (),
            clips=clips,
            memory=record.memory,
            sharers=record.sharers,
            log=log,
            projects=projects,
            progress=progress,
        )
    provenance = {
        "source": source_name(source),
        "recipe": recipe.to_dict(),
        "seed": record.seed,
        "calibration": {
            **_facts(calibration, states, clips, record),
            "seconds": round(time.monotonic() - started, 1),
            "peak_mb": round(peak_memory() / 1e6),
            "threads": torch.get_num_threads(),
        },
        "notes": notes,
        "versions": versions(),
        "metrics": {},
    }
    return QuantizedModel(family, engine.module, provenance)


def _calibration_set(record: Calibration, progress: Progress) -> CalibrationSet:
    """Choose the images."""
    boxes = None
    if record.coco is not None:
        boxes = annotated_boxes(record.coco, record.pictures, progress)
    sample = sample_images(
        record.pictures,
        record.count,
        record.seed,
        exact=record.exact,
        among=boxes,
        avoid=record.avoid,
        warn=progress.warn,
        info=progress.info,
    )
    return CalibrationSet(sample, boxes, record.prompts_per_image, record.clicks, record.seed)


def _videos(record: Calibration, family: Family) -> list[list[Path]]:
    """Return the frames of the videos that calibrate the family's memory."""
    if record.videos is None:
        return []
    if not hasattr(family, "recall"):
        raise UserError(
            f"A model of the family {family.name} has no memory that videos could calibrate; give "
            "images instead. Those of a folder of frames are images too."
        )
    return find_videos(record.videos)


def _clips(
    engine: TorchEngine,
    calibration: CalibrationSet,
    states: Pictures,
    videos: list[list[Path]],
    progress: Progress,
) -> Sequence[State]:
    """Return what a model's memory is calibrated on; nothing if it has none."""
    if not isinstance(engine, TorchVideoEngine):
        return ()
    if videos:
        count = len(range(0, len(states), STILLS_PER_CLIP))
        return clips_of_videos(engine, videos, count, calibration.seed, progress)
    return clips_of_stills(engine, calibration.sample, states.prompts, calibration.seed, progress)


def _explain_others(log: UnitLog, progress: Progress) -> None:
    """Say why the finished units of an earlier run to the same folder are not taken over."""
    if not log.begun:
        for different in log.differences():
            progress.info(
                "Starting anew: what an earlier run to this folder has finished was made with "
                f"another value of {', '.join(sorted(different))}."
            )


def _facts(
    calibration: CalibrationSet,
    states: Pictures,
    clips: Sequence[State],
    record: Calibration,
) -> dict[str, Any]:
    """Return what the manifest says about the images and the prompts, and of clips."""
    rows = torch.cat(states.prompts, dim=1)[0]
    made_of = "images" if record.videos is None else "videos"
    of_clips = {"clips": {"count": len(clips), "made_of": made_of}} if clips else {}
    return {
        **of_clips,
        "images": list(calibration.sample.names),
        "count": len(calibration.sample),
        "sha256": calibration.sample.sha256,
        "boxes": "found by the float model" if calibration.boxes is None else "annotated",
        "prompts": len(rows),
        "clicks": int(are_clicks(rows).sum()),
    }
