"""SAM 2's image predictor: Meta's names, argument orders and shapes, with any engine."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from carsam.errors import UserError
from carsam.images.given_arrays import finite_numbers, given_array
from carsam.images.read import ImageSource
from carsam.predict.predictor import Prediction, SamPredictor, engine_of

LARGEST_LOGIT = 32.0
"""Low-resolution logits are cut off at this size, as Meta does."""

Arrays = Sequence[ArrayLike | None]
"""One prompt's part for each image of a batch."""


class SAM2ImagePredictor:
    """Predicts masks as `sam2.sam2_image_predictor.SAM2ImagePredictor` does, numpy in and out.

    It works with every family. As there, masks are float32, 0 or 1. Where Meta goes on without a
    word, bad input is refused. Without points and boxes the model sees a point that is none.

    Args:
        sam_model: what `SamPredictor` takes.
        mask_threshold: logits above it are the mask.
        max_hole_area, max_sprinkle_area: only 0; holes and sprinkles are left as they are.
    """

    def __init__(
        self,
        sam_model: Any,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
    ) -> None:
        for name, area in (("hole", max_hole_area), ("sprinkle", max_sprinkle_area)):
            if area > 0:
                raise UserError(
                    f"Found max_{name}_area {area}; expected 0, as masks are not changed after the "
                    "decoder. Remove small regions from the masks yourself."
                )
        self.model = engine_of(sam_model)
        self.mask_threshold = mask_threshold
        self._images: list[SamPredictor] = []
        self._is_batch = False

    @classmethod
    def from_pretrained(cls, model_id: str, **settings: Any) -> "SAM2ImagePredictor":
        """Load a run, a float model's folder or file, or a Hugging Face id."""
        return cls(model_id, **settings)

    def set_image(self, image: ImageSource) -> None:
        """Compute the embedding of an RGB image (H, W, 3) uint8, a Pillow image or a file."""
        self.reset_predictor()
        self._images = [self._with_image(image)]

    def set_image_batch(self, image_list: Sequence[ImageSource]) -> None:
        """Compute the embeddings of several images, which `predict_batch` works on."""
        self.reset_predictor()
        self._images = [self._with_image(image) for image in image_list]
        self._is_batch = True

    def predict_batch(
        self,
        point_coords_batch: Arrays | None = None,
        point_labels_batch: Arrays | None = None,
        box_batch: Arrays | None = None,
        mask_input_batch: Arrays | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Predict on every image of a batch; the arguments are lists of those of `predict`."""
        if not self._is_batch:
            raise UserError("No batch of images is set; call set_image_batch(image_list) first.")
        given = (point_coords_batch, point_labels_batch, box_batch, mask_input_batch)
        for parts in given:
            if parts is not None and len(parts) != len(self._images):
                raise UserError(
                    f"Found prompts for {len(parts)} images; expected {len(self._images)}, one "
                    "entry for each image that is set."
                )
        results = [
            self._predict(
                predictor,
                tuple(None if parts is None else parts[index] for parts in given),
                multimask_output,
                return_logits,
                normalize_coords,
            )
            for index, predictor in enumerate(self._images)
        ]
        masks, ious, low_res = ([result[part] for result in results] for part in range(3))
        return masks, ious, low_res

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Prediction:
        """Predict the masks of one prompt, or of B prompts, on the image.

        Args:
            point_coords: (N, 2) or (B, N, 2), x then y.
            point_labels: (N,) or (B, N), 1 foreground, 0 background, -1 not a point.
            box: (4,) or (B, 4), x0 y0 x1 y1.
            mask_input: (1, 4h, 4w) or (B, 1, 4h, 4w) low-resolution logits.
            multimask_output: three candidate masks instead of one.
            return_logits: logits instead of masks.
            normalize_coords: coordinates are pixels of the image; otherwise they run from 0 to 1.

        Returns:
            masks (C, H, W), predicted IoUs (C,) and low-resolution logits (C, 4h, 4w), float32,
            each with a leading dimension B where B is more than 1.

        Raises:
            UserError: as `SamPredictor.predict`.
        """
        return self._predict(
            self._only_image(),
            (point_coords, point_labels, box, mask_input),
            multimask_output,
            return_logits,
            normalize_coords,
        )

    def get_image_embedding(self) -> np.ndarray:
        """Return the image embedding (1, C, h, w) float32.

        Meta adds what stands for a missing memory here, we do when masks are decoded.
        """
        return self._only_image().get_image_embedding()

    def reset_predictor(self) -> None:
        """Forget all images."""
        self._images, self._is_batch = [], False

    def _only_image(self) -> SamPredictor:
        if self._is_batch or not self._images:
            raise UserError("No image is set; call set_image(image) first.")
        return self._images[0]

    def _with_image(self, image: ImageSource) -> SamPredictor:
        predictor = SamPredictor(self.model)
        predictor.set_image(image)
        return predictor

    def _predict(
        self,
        predictor: SamPredictor,
        prompt: tuple[Any, ...],
        multimask_output: bool,
        return_logits: bool,
        normalize_coords: bool,
    ) -> Prediction:
        point_coords, point_labels, box, mask_input = prompt
        height, width = predictor.original_size
        scale = np.ones(2) if normalize_coords else np.array([width, height], np.float64)
        whole = self.mask_threshold == 0 and not return_logits
        masks, ious, low_res = predictor.predict_batch(
            boxes=_batch(box, "boxes", 2, np.tile(scale, 2)),
            point_coords=_batch(point_coords, "points", 3, scale),
            point_labels=_batch(point_labels, "labels", 2),
            mask_inputs=_batch(mask_input, "mask input", 4),
            multimask_output=multimask_output,
            return_logits=not whole,
        )
        if not (whole or return_logits):
            masks = masks > self.mask_threshold
        results = (masks.astype(np.float32), ious, low_res.clip(-LARGEST_LOGIT, LARGEST_LOGIT))
        first, second, third = (part[0] if len(part) == 1 else part for part in results)
        return first, second, third


def _batch(given: Any, name: str, dimensions: int, scale: np.ndarray | None = None) -> Any:
    """Return a part of one prompt or of several as one of several, times `scale`."""
    if given is None:
        return None
    array = given_array(given, name) if scale is None else finite_numbers(given, name) * scale
    return array[None] if array.ndim == dimensions - 1 else array
