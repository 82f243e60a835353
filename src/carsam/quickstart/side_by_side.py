"""One picture of what several engines make of the same boxes."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from carsam.engines.base import Engine
from carsam.errors import UserError
from carsam.evaluation import masks
from carsam.evaluation.coco_data import Annotation, CocoImage
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.image_files import on_disk
from carsam.evaluation.warning_log import WarningLog
from carsam.images.drawing import Panel, draw_prompt, overlay_mask, panel_rows
from carsam.images.read import read_image
from carsam.predict.predictor import SamPredictor
from carsam.quickstart.photos import Photo

PANEL_SIZE = 320
COLOURS = ((30, 144, 255), (255, 196, 0), (0, 205, 120), (240, 80, 150))
"""Of the objects of an image, in turn."""

SHARE = 0.1
"""Objects are shown whose boxes come closest to this share of the image."""


@dataclass(frozen=True)
class Example:
    """A row of the picture.

    Args:
        image: RGB uint8 (H, W, 3).
        boxes: (N, 4), x0 y0 x1 y1 in pixels, one for each object.
        truths: the true masks (N, H, W) bool, where they are known.
    """

    image: np.ndarray
    boxes: np.ndarray
    truths: np.ndarray | None = None


def side_by_side(engines: Mapping[str, Engine], examples: Sequence[Example]) -> Image.Image:
    """Draw the boxes of every example, then the masks of every engine.

    Captions give the mean IoU with the true masks; where these are not known, with the masks of
    the first engine.

    Args:
        engines: by the name that the captions give them.
        examples: from top to bottom.
    """
    predictors = {name: SamPredictor(engine) for name, engine in engines.items()}
    rows = [_row(example, predictors) for example in examples]
    return panel_rows(rows, PANEL_SIZE)


def photo_examples(photos: Sequence[Photo]) -> list[Example]:
    """Return photos with their boxes; what is true of them nobody has drawn."""
    return [Example(read_image(photo.path), photo.boxes) for photo in photos]


def coco_examples(coco_json: Path, image_folder: Path, images: int = 4) -> list[Example]:
    """Return the first images that have objects, with some of their boxes and true masks.

    Args:
        coco_json: COCO instances json with the boxes and true masks.
        image_folder: folder of its images; those that cannot be read are passed over.
        images: most to return.

    Raises:
        UserError: there is nothing to show.
    """
    data = on_disk(read_coco(coco_json), image_folder, WarningLog(coco_json))
    examples: list[Example] = []
    for image in data.images:
        shown = _shown(image, data.of_image(image.id))
        if shown and len(examples) < images:
            with suppress(UserError):
                pixels = read_image(image_folder / image.file_name)
                boxes = np.array([annotation.box for annotation in shown])
                rles = (masks.annotation_rle(annotation, image) for annotation in shown)
                examples.append(Example(pixels, boxes, np.stack([masks.decode(r) for r in rles])))
    if not examples:
        raise UserError(
            f"{coco_json} describes no object with a box in an image of {image_folder}."
        )
    return examples


def _row(example: Example, predictors: Mapping[str, SamPredictor]) -> list[Panel]:
    image = np.array(_fitted(example.image, Image.Resampling.LANCZOS))
    scale = max(image.shape[:2]) / max(example.image.shape[:2])
    drawn = image
    for box, colour in zip(example.boxes * scale, _colours(example), strict=True):
        drawn = draw_prompt(drawn, box.tolist(), colour=colour)
    panels = [Panel(drawn, "photo and boxes")]
    truths, reference = example.truths, ""
    for name, predictor in predictors.items():
        predictor.set_image(example.image)
        found = predictor.predict_batch(boxes=example.boxes, multimask_output=False)[0][:, 0]
        caption = name
        if truths is not None:
            caption = f"{name}: IoU {_mean_iou(found, truths):.2f}{reference}"
        else:
            truths, reference = found, f" with {name}"
        panels.append(Panel(_overlaid(image, found, example), caption))
    return panels


def _mean_iou(found: np.ndarray, truths: np.ndarray) -> float:
    pairs = zip(found, truths, strict=True)
    return float(
        np.mean([masks.iou(masks.encode(mask), masks.encode(true)) for mask, true in pairs])
    )


def _overlaid(image: np.ndarray, found: np.ndarray, example: Example) -> np.ndarray:
    """Return a fitted image with masks (N, H, W) of the whole size tinted and outlined."""
    for mask, colour in zip(found, _colours(example), strict=True):
        shrunk = np.array(_fitted(mask.astype(np.uint8) * 255, Image.Resampling.BILINEAR)) > 127
        image = overlay_mask(image, shrunk, 0.5, colour, colour)
    return image


def _fitted(image: np.ndarray, method: Image.Resampling) -> Image.Image:
    """Return an image scaled to fit a panel, so that lines drawn on it are equally thin in all."""
    return ImageOps.contain(Image.fromarray(image), (PANEL_SIZE, PANEL_SIZE), method)


def _colours(example: Example) -> list[tuple[int, int, int]]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(example.boxes))]


def _shown(image: CocoImage, annotations: Sequence[Annotation]) -> list[Annotation]:
    """Return the objects to show of an image, none if it has none with a usable box."""

    def distance(annotation: Annotation) -> float:
        x0, y0, x1, y1 = annotation.box
        return abs((x1 - x0) * (y1 - y0) / (image.width * image.height) - SHARE)

    def is_inside(annotation: Annotation) -> bool:
        x0, y0, x1, y1 = annotation.box
        return max(x0, 0) < min(x1, image.width) and max(y0, 0) < min(y1, image.height)

    usable = (a for a in annotations if not a.crowd and is_inside(a))
    return sorted(usable, key=distance)[: len(COLOURS)]
