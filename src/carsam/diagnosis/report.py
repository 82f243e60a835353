"""The diagnosis of a run, from folder to json, pictures and one line of advice."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from carsam.calibration.prompts import annotated_boxes, found_boxes
from carsam.diagnosis.attention import Focus, focus_before_and_after
from carsam.diagnosis.damage import Case, Diagnosis, diagnose
from carsam.diagnosis.mixed import UnitCost, unit_costs
from carsam.diagnosis.oscillation import LossCurve, loss_curves, swing
from carsam.diagnosis.switches import SwitchedModel
from carsam.engines.torch_engine import TorchEngine
from carsam.families import load_model
from carsam.formats.files import check_writable, write_if_possible, write_whole
from carsam.images.preprocess import preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import sample_images
from carsam.methods.recipe import Recipe
from carsam.methods.units import plan_units
from carsam.progress import Progress
from carsam.simulation.model import load_simulated

BOXES_PER_IMAGE = 4

NUMBERS = "doctor.json"
OTHER_FOLDER = "Give another folder for the report, or make room."


@dataclass(frozen=True)
class Report:
    """What `carsam doctor` found.

    Args:
        diagnosis: harm by unit and operand.
        float_focus, quantized_focus: of every token-to-image attention, averaged over images.
        losses: of reconstruction; empty where nothing was trained.
        costs: cost and harm of every unit, for `carsam.diagnosis.mixed`.
    """

    diagnosis: Diagnosis
    float_focus: tuple[Focus, ...]
    quantized_focus: tuple[Focus, ...]
    losses: tuple[LossCurve, ...]
    costs: tuple[UnitCost, ...]

    @property
    def swing(self) -> float:
        """Of the final losses along the depth (`oscillation.swing`)."""
        return swing(self.losses)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        losses = [{**asdict(curve), "rises": curve.rises} for curve in self.losses]
        found = {**asdict(self), "losses": losses, "loss_swing": self.swing}
        return {**found, "advice": self.diagnosis.advice()}


def examine(
    run: str | Path,
    images: str | Path,
    out: Path,
    *,
    coco: str | Path | None = None,
    source: str | None = None,
    count: int = 4,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress,
) -> Report:
    """Diagnose a run and write `doctor.json`, `damage.svg` and `attention.png` to `out`.

    Where the run was reconstructed, `losses.svg` is written too. The numbers are written first; a
    picture that cannot be made is a warning.

    Args:
        run: folder of the quantized model.
        images: folder of photos to look at.
        coco: their annotations, whose boxes are the prompts; otherwise the float model finds some.
        source: the float model; the one that the run names unless given.
        count: photos to use.
        seed: chooses them.
        device: where to compute.

    Raises:
        UserError: the run, the float model or the images cannot be read, or `out` not be written.
    """
    from carsam.diagnosis.pictures import save_attention, save_damage, save_losses

    check_writable(out / NUMBERS, OTHER_FOLDER)
    quantized = load_simulated(run)
    original = source or quantized.provenance["source"]
    family, float_module = load_model(original, progress.warn, quantized.image_size)
    model = SwitchedModel(quantized, float_module, device)
    cases = _cases(model, images, coco, count, seed, progress)
    recipe = Recipe.from_dict(quantized.provenance["recipe"])
    units = plan_units(family.stages(model.module), quantized.sites, recipe)
    found = diagnose(model, units, cases, progress)
    costs = unit_costs(model, units, found, cases[0])
    model.switch_(())
    floats, after = focus_before_and_after(model.reference, quantized, cases)
    losses = loss_curves(quantized.provenance.get("notes", ()))
    report = Report(found, floats, after, losses, costs)
    content = json.dumps(report.to_json(), indent=1) + "\n"
    write_whole(out / NUMBERS, content.encode(), OTHER_FOLDER)
    pictures: dict[str, Callable[[Path], None]] = {
        "damage.svg": partial(save_damage, found),
        "attention.png": partial(save_attention, model, quantized, cases[0]),
    }
    if losses:
        pictures["losses.svg"] = partial(save_losses, losses)
    for name, save in pictures.items():
        write_if_possible(out / name, save, progress.warn)
    return report


def _cases(
    model: SwitchedModel,
    images: str | Path,
    coco: str | Path | None,
    count: int,
    seed: int,
    progress: Progress,
) -> list[Case]:
    boxes = None if coco is None else annotated_boxes(coco, images, progress)
    sample = sample_images(images, count, seed, among=boxes, warn=progress.warn, info=progress.info)
    model.switch_(())
    engine = TorchEngine(model.family, model.reference, "float", model.device)
    cases = []
    for index, (name, image) in enumerate(zip(sample.names, sample, strict=True)):
        pixels, frame = preprocess(image, engine.framing)
        if boxes is None:
            chosen = found_boxes(engine, image, BOXES_PER_IMAGE, seed + index)
        else:
            chosen = frame.map_boxes(boxes[name][:BOXES_PER_IMAGE])
        cases.append(Case(pixels, Prompts(boxes=chosen)))
    return cases
