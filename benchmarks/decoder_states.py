"""sam-mini's decoder by itself: float states after the encoder, computed once, kept in a file."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch

from carsam.calibration.calibration_set import CalibrationSet
from carsam.calibration.prompts import annotated_boxes
from carsam.engines.torch_engine import TorchEngine
from carsam.families import load_model
from carsam.families.base import Stage, State, split_after_encoder
from carsam.images.read import sample_images
from carsam.methods.recipe import Recipe
from carsam.methods.steps.training.mask_loss import run_stages
from carsam.methods.units import UnitPlan, plan_units
from carsam.progress import Silent
from carsam.simulation.model import prepare

KEPT = Path(gettempdir()) / "carsam_decoder_states"


@dataclass(frozen=True)
class Decoder:
    """The prepared float model, and what its encoder makes of some images.

    Args:
        family, model: prepared and float.
        stages: after the encoder.
        states: before the first of them, one per image.
    """

    family: Any
    model: Any
    stages: tuple[Stage, ...]
    states: list[State]

    def plans(self, recipe: Recipe) -> tuple[UnitPlan, ...]:
        """Return the units of the decoder."""
        plans = plan_units(self.family.stages(self.model), self.family.sites(self.model), recipe)
        paths = {stage.path for stage in self.stages}
        return tuple(plan for plan in plans if plan.stages[0].path in paths)


@torch.no_grad()
def float_decoder(coco: Path, images: int, prompts_per_image: int, seed: int) -> Decoder:
    """Return the decoder with images and prompts that a seed chooses of the training images.

    Args:
        coco: folder with `images_train` and `annotations/train.json`.
    """
    family, model = load_model("sam-mini")
    model = prepare(family, model)
    encoder, decoder = split_after_encoder(family.stages(model))
    kept = KEPT / f"{images}_{prompts_per_image}_prompts_{seed}.pt"
    if not kept.exists():
        boxes = annotated_boxes(coco / "annotations" / "train.json")
        sample = sample_images(coco / "images_train", images, seed, among=boxes, warn=print)
        engine = TorchEngine(family, model, "float", "cpu")
        calibration = CalibrationSet(sample, boxes, prompts_per_image, 0.5, seed)
        states = calibration.states(family, engine, Silent())
        KEPT.mkdir(parents=True, exist_ok=True)
        torch.save([run_stages(model, encoder, state) for state in states], kept)
    return Decoder(family, model, decoder, torch.load(kept))
