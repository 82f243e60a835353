"""What the paper claims of a quantized model, measured: dissipation and oscillation."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from study_images import StudyImage
from study_prompts import ask

from carsam.diagnosis.attention import focus_before_and_after
from carsam.diagnosis.damage import Case
from carsam.diagnosis.oscillation import loss_curves, swing
from carsam.diagnosis.pictures import save_attention
from carsam.diagnosis.switches import SwitchedModel
from carsam.images.preprocess import Framing, preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import read_image
from carsam.simulation.model import QuantizedModel

IMAGES = 6
BOXES = 4


def look(
    quantized: QuantizedModel, module: Any, images: Sequence[StudyImage], picture: Path | None
) -> dict[str, Any]:
    """Return the focus of the attentions before and after, and the losses of the units, as json.

    Args:
        module: the float model.
        images: of which the first `IMAGES` with objects are looked at.
        picture: where the attention of the first one is drawn; None draws nothing.
    """
    cases = _cases(images, quantized.family.framing(module.config))
    model = SwitchedModel(quantized, module)
    model.switch_(())
    before, after = focus_before_and_after(model.reference, quantized, cases)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        save_attention(model, quantized, cases[0], picture)
    curves = loss_curves(quantized.provenance["notes"])
    return {
        "focus": [
            {"path": one.path, "float": asdict(one), "quantized": asdict(other)}
            for one, other in zip(before, after, strict=True)
        ],
        "losses": [{**asdict(curve), "rises": curve.rises} for curve in curves],
        "swing": swing(curves),
    }


def _cases(images: Sequence[StudyImage], framing: Framing) -> list[Case]:
    cases: list[Case] = []
    for image in images:
        objects = image.objects()[:BOXES]
        if objects and len(cases) < IMAGES:
            photo = read_image(image.path)
            pixels, frame = preprocess(photo, framing)
            boxes = ask(image.name, photo.shape[:2], objects).boxes[: len(objects)]
            cases.append(Case(pixels, Prompts(boxes=frame.map_boxes(np.asarray(boxes)))))
    return cases
