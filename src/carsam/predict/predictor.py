"""Masks of one image from points, boxes and masks, with any engine."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from carsam.engines.base import Embedding, Engine
from carsam.engines.load import load
from carsam.errors import NoImageError, UserError
from carsam.images.decode import EncodedImage
from carsam.images.given_arrays import given_array
from carsam.images.preprocess import Frame, normalise_and_pad
from carsam.images.prompts import Prompts
from carsam.images.read import ImageSource, read_resized
from carsam.images.remarks import Tell
from carsam.predict.embeddings import EmbeddingCache
from carsam.predict.given_prompts import (
    given_prompts,
    one_box,
    one_mask,
    points_of_one,
)
from carsam.predict.sam import Sam, given_embedding, only_part
from carsam.predict.tensors import to_tensor
from carsam.predict.torch_half import TorchHalf
from carsam.predict.upscale import upscale_masks

Prediction = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Masks, predicted IoUs and low-resolution logits."""

FILES = str | os.PathLike | EncodedImage | Image.Image
"""Images that say themselves which channel is which."""


class SamPredictor(TorchHalf):
    """Predicts masks with the names, argument order and shapes of segment-anything's SamPredictor.

    It holds one image, so that threads must not share it: `predict` would answer for the image that
    another thread has set. Give every thread a predictor of its own, all with one engine, which
    threads may share: `engine = carsam.load(run)`, then `SamPredictor(engine)` in each.

    Args:
        sam_model: an engine, a model with an `engine()` method such as `carsam.Sam`, or what
            `carsam.engines.load` takes, such as a run folder.
        cache: embeddings on disk, or their folder: an image that was set before, in this process
            or another, is not encoded again.

    Attributes:
        model: the model with the names of segment-anything's `Sam`.
        is_image_set: whether there is an image to work on.
        input_size: height and width of the image within the model's input. It follows from
            `original_size`; one that is assigned must agree.
    """

    _embedding: Embedding | None
    _original_size: tuple[int, int] | None
    _input_size: tuple[int, int] | None

    def __init__(self, sam_model: Any, cache: EmbeddingCache | str | Path | None = None) -> None:
        self.engine = engine_of(sam_model)
        self._in_tensors = isinstance(sam_model, Sam)
        self.model = sam_model if isinstance(sam_model, Sam) else Sam(self.engine)
        self._cache = EmbeddingCache(cache) if isinstance(cache, str | Path) else cache
        self.reset_image()

    def set_image(
        self,
        image: ImageSource,
        image_format: str = "RGB",
        *,
        max_megapixels: float | None = None,
        warn: Tell = warnings.warn,
    ) -> None:
        """Compute the embedding of the image that `predict` will work on.

        Args:
            image: RGB or BGR uint8 array or tensor (H, W, 3), a Pillow image, or a file.
            image_format: `RGB` or `BGR`, the order of an array's channels.
            max_megapixels: most million pixels that a file may have; Pillow's limit unless given.
            warn: called with a sentence where an image has more than 8 bits and uses only a part
                of their values, which then becomes 0 to 255.

        Raises:
            UserError: if the image cannot be used; then no image is set.
        """
        self.reset_image()
        if image_format not in ("RGB", "BGR"):
            raise UserError(f"Found image_format {image_format!r}; expected 'RGB' or 'BGR'.")
        framing = self.engine.framing
        rgb, size = read_resized(image, framing, warn=warn, max_megapixels=max_megapixels)
        if image_format == "BGR" and not isinstance(image, FILES):
            rgb = rgb[..., ::-1]
        pixels = normalise_and_pad(rgb, framing)
        del rgb  # as large as the pixels, and not wanted while they are encoded
        self.set_pixels(pixels, size)

    def set_pixels(self, pixels: np.ndarray, original_size: tuple[int, int]) -> None:
        """Compute the embedding of an image as the model takes it.

        Args:
            pixels: (3, S, S) float32, resized, normalised and padded.
            original_size: height and width of the image before.
        """
        if self._cache is None:
            self._embedding = self.engine.encode(pixels)
        else:
            self._embedding = self._cache.encode(self.engine, pixels)
        self._original_size = original_size
        self.is_image_set = True

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> Prediction:
        """Predict the masks of one prompt; coordinates are pixels of the image as it was given.

        Where nothing is given, or only a mask, they are the masks that the model proposes then.

        Args:
            point_coords: (N, 2), x then y.
            point_labels: (N,), 1 foreground, 0 background, -1 not a point; 2 and 3 are the first
                and the second corner of a box, as in segment-anything's exported models.
            box: (4,) or (1, 4), x0 y0 x1 y1; it may reach beyond the image.
            mask_input: (1, 4h, 4w) low-resolution logits of an earlier prediction.
            multimask_output: three candidate masks instead of one.
            return_logits: logits instead of bool masks.

        Returns:
            masks (C, H, W) bool or float32, predicted IoUs (C,) and low-resolution logits
            (C, 4h, 4w), float32; C is 3 with `multimask_output`, else 1.

        Raises:
            UserError: if no image is set, or a prompt is empty, not finite or of a wrong shape.
        """
        boxes, points = one_box(box), points_of_one(point_coords, "points")
        given = any(part is not None for part in (box, point_coords))
        if given and boxes is None and points is None and mask_input is None:
            raise UserError(
                "Found neither points nor a box in what is given for them, which is empty; leave "
                "both out to ask for masks without a prompt."
            )
        masks, ious, low_res = self.predict_batch(
            boxes=boxes,
            point_coords=points,
            point_labels=points_of_one(point_labels, "labels"),
            mask_inputs=one_mask(mask_input),
            multimask_output=multimask_output,
            return_logits=return_logits,
        )
        return masks[0], ious[0], low_res[0]

    def predict_batch(
        self,
        boxes: ArrayLike | None = None,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        mask_inputs: ArrayLike | None = None,
        multimask_output: bool = False,
        return_logits: bool = False,
        chunk: int = 16,
    ) -> Prediction:
        """Predict the masks of P prompts on the image; P may be 0, and is 1 if nothing is given.

        Args:
            boxes: (P, 4), x0 y0 x1 y1 in pixels of the image.
            point_coords: (P, N, 2), x then y; label -1 fills up prompts with fewer points.
            point_labels: (P, N), as of `predict`.
            mask_inputs: (P, 1, 4h, 4w) low-resolution logits of earlier predictions.
            multimask_output: three candidate masks instead of one.
            return_logits: logits instead of bool masks.
            chunk: prompts decoded at once; bounds the decoder's memory.

        Returns:
            Those of `predict`, with a leading dimension P.

        Raises:
            UserError: as `predict`.
        """
        size = _mask_size(self.embedding)
        prompts = given_prompts(boxes, point_coords, point_labels, mask_inputs, self.frame, size)
        return self.predict_prompts(prompts, multimask_output, return_logits, chunk)

    def predict_prompts(
        self,
        prompts: Prompts,
        multimask_output: bool = False,
        return_logits: bool = False,
        chunk: int = 16,
    ) -> Prediction:
        """Predict the masks of prompts that are checked and in the frame's pixels already.

        `frame.map_points` and `frame.map_boxes` map pixels of the image there. Other arguments and
        the result are those of `predict_batch`.
        """
        if chunk < 1:
            raise UserError(f"Found chunk {chunk}; expected at least 1.")
        embedding, frame = self._require_image()
        count, candidates = len(prompts), 3 if multimask_output else 1
        low_res = np.empty((count, candidates, *_mask_size(embedding)), np.float32)
        ious = np.empty((count, candidates), np.float32)
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            low_res[part], ious[part] = self.engine.decode(
                embedding, prompts[part], multimask_output
            )
        return upscale_masks(low_res, frame, return_logits), ious, low_res

    def get_image_embedding(self) -> Any:
        """Return the image embedding (1, C, h, w) float32; a tensor where the model is a `Sam`."""
        if self._in_tensors:
            return to_tensor(self.embedding[0][None], self.device)
        return np.ascontiguousarray(self.embedding[0])[None]

    def reset_image(self) -> None:
        """Forget the image."""
        self.is_image_set = False
        self._embedding = self._original_size = self._input_size = None

    @property
    def embedding(self) -> Embedding:
        """All that the engine computed of the image, as it takes it again."""
        return self._require_image()[0]

    @property
    def features(self) -> Any:
        """What `predict` reads of the image. To be kept and assigned again, with `original_size`.

        All that the engine computed of it; the first array is the embedding (C, h, w). Where the
        model is a `Sam`, as in segment-anything, the embedding as a tensor (1, C, h, w).
        """
        if self._in_tensors:
            return to_tensor(only_part(self.embedding)[None], self.device)
        return self.embedding

    @features.setter
    def features(self, kept: Any) -> None:
        if isinstance(kept, tuple):
            self._embedding = tuple(given_array(p, "features", np.float32) for p in kept)
        else:
            self._embedding = None if kept is None else (given_embedding(kept),)
        self.is_image_set = kept is not None

    @property
    def frame(self) -> Frame:
        """Where the image lies in the model's input."""
        return self._require_image()[1]

    @property
    def original_size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.frame.original_size

    @original_size.setter
    def original_size(self, size: Any) -> None:
        self._original_size = None if size is None else _size(size)

    @property
    def input_size(self) -> tuple[int, int]:
        return self.frame.input_size

    @input_size.setter
    def input_size(self, size: Any) -> None:
        self._input_size = None if size is None else _size(size)

    def _require_image(self) -> tuple[Embedding, Frame]:
        if not self.is_image_set or self._embedding is None:
            raise NoImageError("No image is set; call set_image(image) first.")
        if self._original_size is None:
            raise NoImageError("Features are set without original_size; assign it too.")
        frame = Frame(self._original_size, self.engine.framing)
        if self._input_size not in (None, frame.input_size):
            raise UserError(
                f"Found input_size {self._input_size} and original_size {self._original_size}; "
                f"this model resizes such an image to {frame.input_size}."
            )
        return self._embedding, frame


def _size(size: Any) -> tuple[int, int]:
    """Return height and width as a client gives them."""
    numbers = given_array(size, "sizes")
    if numbers.shape != (2,) or not (numbers >= 1).all() or (numbers % 1).any():
        raise UserError(f"Found size {size}; expected height and width in pixels.")
    return int(numbers[0]), int(numbers[1])


def _mask_size(embedding: Embedding) -> tuple[int, int]:
    _, height, width = embedding[0].shape
    return 4 * height, 4 * width


def engine_of(model: Any) -> Engine:
    """Return the engine that a model is, has or stands for.

    Raises:
        UserError: it is none of these.
    """
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
