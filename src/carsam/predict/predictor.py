"""Masks of one image from points, boxes and masks, with any engine."""

from pathlib import Path
from typing import Any

import numpy as np

from carsam.engines.base import Embedding, Engine
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.images.preprocess import Frame, preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import ImageSource, read_image
from carsam.predict.embeddings import EmbeddingCache
from carsam.predict.upscale import upscale_masks

Prediction = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Masks, predicted IoUs and low-resolution logits."""

POINT_LABELS = {1: "foreground", 0: "background", -1: "not a point"}


class SamPredictor:
    """Predicts masks with the names, argument order and shapes of segment-anything's SamPredictor.

    Args:
        model: an engine, a model with an `engine()` method, or what `carsam.engines.load` takes,
            such as a run folder.
        cache: embeddings on disk, or their folder: an image that was set before, in this process
            or another, is not encoded again.
    """

    def __init__(self, model: Any, cache: EmbeddingCache | str | Path | None = None) -> None:
        self.engine = _engine_of(model)
        self._cache = EmbeddingCache(cache) if isinstance(cache, str | Path) else cache
        self._embedding: Embedding | None = None
        self._frame: Frame | None = None

    def set_image(self, image: ImageSource, image_format: str = "RGB") -> None:
        """Compute the embedding of the image that `predict` will work on.

        Args:
            image: RGB or BGR uint8 array (H, W, 3), a Pillow image, or a file.
            image_format: `RGB` or `BGR`, the order of an array's channels.

        Raises:
            UserError: if the image cannot be used; then no image is set.
        """
        self.reset_image()
        if image_format not in ("RGB", "BGR"):
            raise UserError(f"Found image_format {image_format!r}; expected 'RGB' or 'BGR'.")
        rgb = read_image(image)
        if image_format == "BGR" and isinstance(image, np.ndarray):
            rgb = np.ascontiguousarray(rgb[..., ::-1])
        pixels, frame = preprocess(rgb, self.engine.image_size)
        self._embedding = (
            self._cache.encode(self.engine, pixels) if self._cache else self.engine.encode(pixels)
        )
        self._frame = frame

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> Prediction:
        """Predict the masks of one prompt; coordinates are pixels of the image as it was given.

        Args:
            point_coords: (N, 2), x then y.
            point_labels: (N,), 1 foreground, 0 background, -1 not a point.
            box: (4,) or (1, 4), x0 y0 x1 y1; it may reach beyond the image.
            mask_input: (1, 4h, 4w) low-resolution logits of an earlier prediction.
            multimask_output: three candidate masks instead of one.
            return_logits: logits instead of bool masks.

        Returns:
            masks (C, H, W) bool or float32, predicted IoUs (C,) and low-resolution logits
            (C, 4h, 4w), float32; C is 3 with `multimask_output`, else 1.

        Raises:
            UserError: if no image is set, or a prompt is missing, not finite or of a wrong shape.
        """
        if box is not None:
            box = np.asarray(box)
            if box.shape not in ((4,), (1, 4)):
                raise _wrong_shape("box", box, "(4,)", "predict_batch takes many boxes")
            box = box.reshape(1, 4)
        masks, ious, low_res = self.predict_batch(
            boxes=box,
            point_coords=_as_batch(point_coords),
            point_labels=_as_batch(point_labels),
            mask_inputs=_as_batch(mask_input),
            multimask_output=multimask_output,
            return_logits=return_logits,
        )
        return masks[0], ious[0], low_res[0]

    def predict_batch(
        self,
        boxes: np.ndarray | None = None,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        mask_inputs: np.ndarray | None = None,
        multimask_output: bool = False,
        return_logits: bool = False,
        chunk: int = 16,
    ) -> Prediction:
        """Predict the masks of P prompts on the image; P may be 0.

        Args:
            boxes: (P, 4), x0 y0 x1 y1 in pixels of the image.
            point_coords: (P, N, 2), x then y; label -1 fills up prompts with fewer points.
            point_labels: (P, N), 1 foreground, 0 background, -1 not a point.
            mask_inputs: (P, 1, 4h, 4w) low-resolution logits of earlier predictions.
            multimask_output: three candidate masks instead of one.
            return_logits: logits instead of bool masks.
            chunk: prompts decoded at once; bounds the decoder's memory.

        Returns:
            Those of `predict`, with a leading dimension P.

        Raises:
            UserError: as `predict`.
        """
        if chunk < 1:
            raise UserError(f"Found chunk {chunk}; expected at least 1.")
        embedding, frame = self.features, self._require_frame()
        _, height, width = embedding[0].shape
        mask_size = (4 * height, 4 * width)
        prompts = _checked_prompts(boxes, point_coords, point_labels, mask_inputs, frame, mask_size)
        count, candidates = len(prompts), 3 if multimask_output else 1
        low_res = np.empty((count, candidates, *mask_size), np.float32)
        ious = np.empty((count, candidates), np.float32)
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            low_res[part], ious[part] = self.engine.decode(
                embedding, prompts[part], multimask_output
            )
        return upscale_masks(low_res, frame, return_logits), ious, low_res

    def get_image_embedding(self) -> np.ndarray:
        """Return the image embedding (1, C, h, w) float32."""
        return self.features[0][None]

    def reset_image(self) -> None:
        """Forget the image."""
        self._embedding = None
        self._frame = None

    @property
    def is_image_set(self) -> bool:
        """Whether `predict` has an image to work on."""
        return self._frame is not None

    @property
    def features(self) -> Embedding:
        """All that the engine computed of the image; its first array is the embedding (C, h, w)."""
        self._require_frame()
        assert self._embedding is not None
        return self._embedding

    @property
    def original_size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self._require_frame().original_size

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the image within the model's input."""
        return self._require_frame().input_size

    def _require_frame(self) -> Frame:
        if self._frame is None:
            raise UserError("No image is set; call set_image(image) first.")
        return self._frame


def _engine_of(model: Any) -> Engine:
    if isinstance(model, str | Path):
        return load(model)
    if not isinstance(model, Engine) and callable(getattr(model, "engine", None)):
        model = model.engine()
    if not isinstance(model, Engine):
        raise UserError(
            f"Found a model of type {type(model).__name__}; expected an engine, a model with an "
            "engine() method, or the path of a run folder or a float model."
        )
    return model


def _as_batch(prompt: np.ndarray | None) -> np.ndarray | None:
    return None if prompt is None else np.asarray(prompt)[None]


def _checked_prompts(
    boxes: np.ndarray | None,
    points: np.ndarray | None,
    labels: np.ndarray | None,
    masks: np.ndarray | None,
    frame: Frame,
    mask_size: tuple[int, int],
) -> Prompts:
    """Check prompts in pixels of the image and map them into the frame."""
    if (points is None) != (labels is None):
        given, missing = ("labels", "points") if points is None else ("points", "labels")
        raise UserError(f"Found {given} without {missing}; give one label for every point.")
    if points is None and boxes is None:
        raise UserError("Found neither points nor a box; give at least one of them.")
    checked_boxes = None if boxes is None else frame.map_boxes(_check_boxes(boxes))
    checked_points = checked_labels = checked_masks = None
    if points is not None and labels is not None:
        checked_points = frame.map_points(_check_points(points))
        checked_labels = _check_labels(labels, checked_points.shape[:2])
    if masks is not None:
        masks = _check_finite("mask input", masks)
        if masks.shape[1:] != (1, *mask_size):
            expected = "(1, {}, {}) for each prompt".format(*mask_size)
            raise _wrong_shape("mask input", masks, expected, "pass an earlier prediction's logits")
        checked_masks = masks[:, 0].astype(np.float32)
    checked = {"boxes": checked_boxes, "points": checked_points, "masks": checked_masks}
    counts = {name: len(prompt) for name, prompt in checked.items() if prompt is not None}
    if len(set(counts.values())) > 1:
        raise UserError(f"Found prompts of different number: {counts}; give equally many of each.")
    return Prompts(checked_points, checked_labels, checked_boxes, checked_masks)


def _check_boxes(boxes: np.ndarray) -> np.ndarray:
    boxes = _check_finite("boxes", boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise _wrong_shape("boxes", boxes, "(P, 4)", "each box is x0 y0 x1 y1")
    reversed_corners = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if reversed_corners.any():
        index = int(reversed_corners.argmax())
        raise UserError(
            f"Found box {boxes[index].tolist()} with its second corner left of or above the first; "
            "expected x0 y0 x1 y1 with x0 <= x1 and y0 <= y1 (not x, y, width, height)."
        )
    return boxes


def _check_points(points: np.ndarray) -> np.ndarray:
    points = _check_finite("points", points)
    if points.ndim != 3 or points.shape[1] == 0 or points.shape[2] != 2:
        raise _wrong_shape("points", points, "(P, N, 2)", "each of N >= 1 points is x y")
    return points


def _check_labels(labels: np.ndarray, expected: tuple[int, ...]) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != expected:
        raise _wrong_shape("labels", labels, str(expected), "give one label for every point")
    if not np.isin(labels, list(POINT_LABELS)).all():
        meanings = ", ".join(f"{label} ({meaning})" for label, meaning in POINT_LABELS.items())
        raise UserError(f"Found labels {np.unique(labels).tolist()}; expected {meanings}.")
    return labels.astype(np.int64)


def _check_finite(name: str, values: np.ndarray) -> np.ndarray:
    """Return `values` as float64, refusing NaN, infinity and what is not a number."""
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"Found {name} that are no array of numbers: {error}.") from error
    if not np.isfinite(numbers).all():
        raise UserError(f"Found {name} with NaN or infinite values; expected finite numbers.")
    return numbers


def _wrong_shape(name: str, found: np.ndarray, expected: str, advice: str) -> UserError:
    return UserError(f"Found {name} of shape {found.shape}; expected {expected}: {advice}.")
