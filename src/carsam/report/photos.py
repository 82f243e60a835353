"""A quantized model and its float model on the same photos: crops, agreement, ranges, proof."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from carsam.calibration.prompts import annotated_boxes, found_boxes
from carsam.diagnosis.codes import compare_codes
from carsam.engines.base import Engine
from carsam.engines.load import load
from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UnsupportedError
from carsam.evaluation.strict import StrictError, assert_strict
from carsam.images.drawing import draw_prompt, overlay_mask
from carsam.images.preprocess import preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import sample_images
from carsam.predict.predictor import SamPredictor
from carsam.progress import Progress
from carsam.report.ranges import Range, ranges, watched
from carsam.simulation.model import QuantizedModel

BOXES_PER_IMAGE = 4
MOST_CROPS = 24
WATCHED = 2
"""Photos on which the grids are watched."""

CROP_SIDE = 260
MARGIN = 0.2
"""Of a box's longer side, shown around it."""


@dataclass(frozen=True)
class Crop:
    """One box on one photo.

    Args:
        image: name of the photo.
        box: x0 y0 x1 y1 in its pixels.
        iou: of the quantized model's mask with the float model's.
        pictures: the float model's mask and the quantized model's, as WebP in base64; empty for a
            crop that is counted but not shown.
    """

    image: str
    box: tuple[float, float, float, float]
    iou: float
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineAgreement:
    """The native engine beside the simulation.

    Args:
        pixels_equal: share of the masks' pixels, mean over the masks; `worst` of one mask.
        codes, differing: of the operands of one photo; None where codes cannot be compared.
    """

    masks: int
    pixels_equal: float
    worst: float
    codes: int | None
    differing: int | None


@dataclass(frozen=True)
class OnPhotos:
    """What the photos showed.

    Args:
        engine: the arithmetic that made the quantized masks.
        crops: the worst first.
        strict: None if the strict check passed, otherwise what it found.
        agreement: None where the native engine does not run the model.
    """

    images: tuple[str, ...]
    engine: str
    crops: tuple[Crop, ...]
    strict: str | None
    agreement: EngineAgreement | None
    ranges: tuple[Range, ...]


def look_at_photos(
    run: Path,
    model: QuantizedModel,
    floats: Engine,
    images: Path,
    coco: Path | None,
    count: int,
    seed: int,
    progress: Progress,
) -> OnPhotos:
    """Run both models on some photos, and watch the quantized one.

    Args:
        run: folder of the run.
        model: the same, loaded for simulation.
        floats: the float model.
        images: folder of photos; `coco` has their boxes, otherwise the float model finds some.
        count: photos to use, chosen by `seed`.

    Raises:
        UserError: the photos or their boxes cannot be read.
    """
    boxes = None if coco is None else annotated_boxes(coco, images, progress)
    sample = sample_images(images, count, seed, among=boxes, warn=progress.warn, info=progress.info)
    simulated = TorchEngine(model.family, model.module, model.mode)
    native = _native(run)
    quantized = native or simulated
    progress.start("Looking at photos", len(sample) + 2)
    crops: list[Crop] = []
    equal: list[float] = []
    codes: tuple[int, int] | None = None
    for index, (name, image) in enumerate(zip(sample.names, sample, strict=True)):
        chosen = (
            _found_boxes(floats, image, seed + index)
            if boxes is None
            else np.asarray(boxes[name][:BOXES_PER_IMAGE])
        )
        before, after = (_masks(engine, image, chosen) for engine in (floats, quantized))
        crops += _crops(name, image, chosen, before, after)
        if native is not None:
            equal += (_masks(simulated, image, chosen) == after).mean((1, 2)).tolist()
            codes = _codes(model, native, image, chosen) if index == 0 else codes
        progress.advance(note=name)
    photos = [sample[index] for index in range(min(len(sample), WATCHED))]
    with watched(model) as watches:
        for photo in photos:
            _masks(simulated, photo, np.array([[0, 0, photo.shape[1], photo.shape[0]]]))
    progress.advance(note="ranges")
    strict = _strict(model, photos[:1])
    progress.advance(note="strict check")
    progress.finish()
    mean_and_worst = (float(np.mean(equal)), min(equal)) if equal else None
    return OnPhotos(
        sample.names,
        quantized.mode,
        _shown(crops),
        strict,
        EngineAgreement(len(equal), *mean_and_worst, *(codes or (None, None)))
        if mean_and_worst
        else None,
        ranges(model, watches),
    )


def _native(run: Path) -> NativeEngine | None:
    """Return the native engine of a run, or None where it lacks the family or a grid."""
    try:
        engine = load(run, "native")
    except UnsupportedError:
        return None
    assert isinstance(engine, NativeEngine)
    return engine


def _found_boxes(engine: Engine, image: np.ndarray, seed: int) -> np.ndarray:
    """Return boxes (P, 4) in pixels of the image around what the float model sees."""
    _, frame = preprocess(image, engine.framing)
    found = found_boxes(engine, image, BOXES_PER_IMAGE, seed)
    return found / np.tile(frame.map_points(np.ones(2)), 2)


def _masks(engine: Engine, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the masks (P, H, W) in boxes of an image."""
    predictor = SamPredictor(engine)
    predictor.set_image(image)
    return predictor.predict_batch(boxes)[0][:, 0]


def _codes(
    model: QuantizedModel, native: NativeEngine, image: np.ndarray, boxes: np.ndarray
) -> tuple[int, int] | None:
    """Return how many codes of a photo were compared and how many differ; None if none can be."""
    pixels, frame = preprocess(image, native.framing)
    try:
        found = compare_codes(model, native, pixels, Prompts(boxes=frame.map_boxes(boxes)))
    except ValueError:  # a grid whose codes are not integers
        return None
    return sum(each.codes for each in found), sum(each.differing for each in found)


def _strict(model: QuantizedModel, photos: Sequence[np.ndarray]) -> str | None:
    try:
        assert_strict(model, photos)
    except StrictError as error:
        return str(error)
    return None


def _crops(
    name: str, image: np.ndarray, boxes: np.ndarray, before: np.ndarray, after: np.ndarray
) -> list[Crop]:
    found = []
    for box, float_mask, quantized_mask in zip(boxes.tolist(), before, after, strict=True):
        either = (float_mask | quantized_mask).sum()
        iou = float((float_mask & quantized_mask).sum() / either) if either else 1.0
        pictures = tuple(_picture(image, mask, box) for mask in (float_mask, quantized_mask))
        found.append(Crop(name, (box[0], box[1], box[2], box[3]), iou, pictures))
    return found


def _shown(crops: Sequence[Crop]) -> tuple[Crop, ...]:
    """Sort by what is lost, and keep the pictures of the worst."""
    ordered = sorted(crops, key=lambda crop: crop.iou)
    hidden = [Crop(crop.image, crop.box, crop.iou) for crop in ordered[MOST_CROPS:]]
    return (*ordered[:MOST_CROPS], *hidden)


def _picture(image: np.ndarray, mask: np.ndarray, box: Sequence[float]) -> str:
    """Return the surroundings of a box with a mask over them, as WebP in base64."""
    height, width = mask.shape
    x0, y0, x1, y1 = box
    half = (0.5 + MARGIN) * max(x1 - x0, y1 - y0) + 4
    across, down = (x0 + x1) / 2, (y0 + y1) / 2  # a square, as far as the photo reaches
    left, top = max(0, round(across - half)), max(0, round(down - half))
    right, bottom = min(width, round(across + half)), min(height, round(down + half))
    part = np.s_[top:bottom, left:right]
    crop = Image.fromarray(image[part])
    scale = CROP_SIDE / max(crop.size)
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    mask = np.asarray(Image.fromarray(mask[part]).resize(size))
    drawn = overlay_mask(np.asarray(crop.resize(size, Image.Resampling.BICUBIC)), mask)
    drawn = draw_prompt(
        drawn, box=[(v - o) * scale for v, o in zip(box, (left, top) * 2, strict=True)]
    )
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, "WEBP", quality=72)
    return base64.b64encode(buffer.getvalue()).decode()
