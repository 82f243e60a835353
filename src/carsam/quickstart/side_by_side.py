"""One picture of what several engines make of the same boxes."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from carsam.engines.base import Engine
from carsam.errors import UserError
from carsam.evaluation import masks
from carsam.evaluation.coco_data import Annotation, CocoImage, read_coco
from carsam.images.drawing import Panel, draw_prompt, overlay_mask, panel_rows
from carsam.images.read import read_image
from carsam.predict.predictor import SamPredictor

SHARE = 0.1
"""Of each image the object is shown whose box comes closest to this share of the image."""


def side_by_side(
    engines: Mapping[str, Engine], coco_json: Path, image_folder: Path, rows: int = 4
) -> Image.Image:
    """Draw one object of each of the first images that have one: its box, then every mask.

    Args:
        engines: by the name that the captions give them.
        coco_json: COCO instances json with the boxes and true masks.
        image_folder: folder of its images; those that cannot be read are passed over.
        rows: most images to draw.

    Raises:
        UserError: there is nothing to draw.
    """
    data = read_coco(coco_json)
    predictors = {name: SamPredictor(engine) for name, engine in engines.items()}
    drawn = []
    for image in data.images:
        annotation = _chosen(image, data.of_image(image.id))
        if annotation is not None:
            with suppress(UserError):
                pixels = read_image(image_folder / image.file_name)
                drawn.append(_row(pixels, image, annotation, predictors))
        if len(drawn) == rows:
            break
    if not drawn:
        raise UserError(
            f"{coco_json} describes no object with a box in an image of {image_folder}."
        )
    return panel_rows(drawn)


def _row(
    pixels: np.ndarray,
    image: CocoImage,
    annotation: Annotation,
    predictors: Mapping[str, SamPredictor],
) -> list[Panel]:
    panels = [Panel(draw_prompt(pixels, annotation.box), "photo and box")]
    truth = masks.annotation_rle(annotation, image)
    for name, predictor in predictors.items():
        predictor.set_image(pixels)
        found, _, _ = predictor.predict(box=np.array(annotation.box), multimask_output=False)
        iou = masks.iou(masks.encode(found[0]), truth)
        panels.append(Panel(overlay_mask(pixels, found[0]), f"{name}, IoU {iou:.2f}"))
    return panels


def _chosen(image: CocoImage, annotations: Sequence[Annotation]) -> Annotation | None:
    """Return the object to show, None if the image has none with a usable box."""

    def distance(annotation: Annotation) -> float:
        x0, y0, x1, y1 = annotation.box
        return abs((x1 - x0) * (y1 - y0) / (image.width * image.height) - SHARE)

    usable = (a for a in annotations if not a.crowd and a.box[0] < a.box[2] and a.box[1] < a.box[3])
    return min(usable, key=distance, default=None)
