"""The loop over a model's stages: stream the images through, apply the method, go on."""

import platform
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import Module

from carsam.calibration.observe import run_observed
from carsam.calibration.prompts import annotated_boxes, found_boxes
from carsam.data.images import ImageSample, sample_images
from carsam.engines import resolve_device
from carsam.families import load_model
from carsam.families.base import Family, State
from carsam.methods import make_recipe, make_steps
from carsam.methods.base import Unit
from carsam.methods.units import plan_units
from carsam.preprocess import Frame, preprocess
from carsam.progress import Progress, Silent, peak_memory
from carsam.quant.model import QuantizedModel, prepare
from carsam.recipe import Recipe
from carsam.torch_engine import TorchEngine


@dataclass(frozen=True)
class CalibrationSet:
    """The images that calibrate, and where their prompts come from.

    Args:
        sample: the images.
        boxes: annotated boxes (P, 4) by file name; None lets the float model find some.
        boxes_per_image: most boxes of one image that are used.
        seed: chooses among more.
    """

    sample: ImageSample
    boxes: dict[str, np.ndarray] | None
    boxes_per_image: int
    seed: int

    def states(self, family: Family, engine: TorchEngine, progress: Progress) -> tuple[State, ...]:
        """Return the state of every image before the first stage."""
        progress.start("Reading images", len(self.sample))
        states = []
        for index, (name, image) in enumerate(zip(self.sample.names, self.sample, strict=True)):
            pixels, frame = preprocess(image, engine.image_size)
            boxes = self._boxes(engine, name, image, frame, self.seed + index)
            states.append(
                family.start(
                    torch.from_numpy(pixels)[None].to(engine.device),
                    torch.from_numpy(boxes)[None].to(engine.device),
                )
            )
            progress.advance(note=name)
        progress.finish()
        return tuple(states)

    def _boxes(
        self, engine: TorchEngine, name: str, image: np.ndarray, frame: Frame, seed: int
    ) -> np.ndarray:
        if self.boxes is None:
            return found_boxes(engine, image, self.boxes_per_image, seed)
        boxes = self.boxes[name]
        if len(boxes) > self.boxes_per_image:
            random = np.random.default_rng(seed)
            boxes = boxes[random.permutation(len(boxes))[: self.boxes_per_image]]
        return frame.map_boxes(boxes)


def quantize(
    source: str | Path | Module,
    images: str | Path,
    recipe: str | Recipe = "rtn",
    bits: str = "w4a4",
    *,
    rules: Sequence[str] = (),
    settings: Sequence[str] = (),
    coco: str | Path | None = None,
    avoid: Container[str] = (),
    count: int = 32,
    exact: bool = False,
    boxes_per_image: int = 8,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a model after training; the model given is not changed.

    Args:
        source: `sam-mini`, a Hugging Face id or folder, a `.pth` file of segment-anything, or a
            SAM model of transformers.
        images: folder of calibration images.
        recipe: a recipe, or the name of one, which is then made with `bits`, `rules` and
            `settings`.
        bits: of weights and activations, as in `w4a4`; 32 means float.
        rules: `PATTERN=BITS` exceptions, by module path or kind; later ones win.
        settings: `step.parameter=value` changes of the recipe's steps.
        coco: instances json; its images are the ones to choose from, its boxes the prompts.
            Without it the float model finds boxes itself.
        avoid: file names that must not calibrate, such as those evaluated on.
        count: images to use.
        exact: refuse fewer images than `count`.
        boxes_per_image: most boxes of one image to use.
        seed: chooses images and boxes, and drives everything random.
        device: `auto`, `cpu` or `cuda`.
        progress: hears how far it is.

    Raises:
        UserError: wrong input; nothing is written in any case.
        ValueError: an activation is NaN or infinite; the site is named.
    """
    progress = progress or Silent()
    started = time.monotonic()
    if isinstance(recipe, str):
        recipe = make_recipe(recipe, bits, tuple(rules), tuple(settings))
    boxes = None if coco is None else annotated_boxes(coco)
    sample = sample_images(
        images, count, seed, exact=exact, among=boxes, avoid=avoid, warn=progress.warn
    )
    family, model = load_model(source)
    recipe.check_rules((site.path, site.kind) for site in family.sites(model))
    engine = TorchEngine(family, prepare(family, model), "float", resolve_device(device))
    del model
    torch.manual_seed(seed)
    calibration = CalibrationSet(sample, boxes, boxes_per_image, seed)
    with torch.no_grad():
        states = calibration.states(family, engine, progress)
        notes = _quantize_(family, engine.module, recipe, states, seed, progress)
    provenance = {
        "source": source if isinstance(source, str) else str(getattr(source, "name", "model")),
        "recipe": recipe.to_dict(),
        "seed": seed,
        "calibration": {
            "images": list(sample.names),
            "count": len(sample),
            "sha256": sample.sha256,
            "prompts": "found by the float model" if coco is None else "annotated boxes",
            "boxes": sum(state["boxes"].shape[1] for state in states),
            "seconds": round(time.monotonic() - started, 1),
            "peak_mb": round(peak_memory() / 1e6),
        },
        "notes": notes,
        "versions": _versions(),
        "metrics": {},
    }
    return QuantizedModel(family, engine.module, provenance)


def _quantize_(
    family: Family,
    model: Any,
    recipe: Recipe,
    states: tuple[State, ...],
    seed: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Quantize a prepared model unit by unit; only one unit's activations are kept.

    Returns:
        What the steps noted, in the order of execution.
    """
    steps = make_steps(recipe)
    histograms = any(step.needs_histograms for step in steps)
    two_paths = any(step.needs_quantized_path for step in steps)
    plans = plan_units(family.stages(model), family.sites(model), recipe)
    quantized_states = states
    notes: list[dict[str, Any]] = []
    progress.start("Quantizing", len(plans) * len(states))
    for index, plan in enumerate(plans):
        # The unit is still float here: one pass gives targets and statistics.
        targets, statistics = run_observed(model, plan, states, histograms, progress)
        unit = Unit(
            model,
            plan,
            inputs=states,
            quantized_inputs=quantized_states,
            targets=targets,
            statistics=statistics,
            seed=seed + index,
            progress=progress,
            notes=notes,
        )
        for step in steps:
            step.run_(unit)
        states = targets
        if two_paths:
            quantized_states = tuple(plan.run(model, state) for state in quantized_states)
    progress.finish()
    return notes


def _versions() -> dict[str, str]:
    packages = ("carsam", "torch", "transformers", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
