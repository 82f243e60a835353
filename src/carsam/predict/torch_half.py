"""The half of segment-anything's `SamPredictor` that takes and returns tensors."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from carsam.engines.base import Engine
from carsam.errors import UserError
from carsam.images.preprocess import Frame, normalise_and_pad
from carsam.images.prompts import Prompts
from carsam.predict.sam import Sam, frame_prompts
from carsam.predict.tensors import to_array, to_tensor
from carsam.predict.transform import ResizeLongestSide, Size

if TYPE_CHECKING:
    from torch import Tensor


class TorchHalf(ABC):
    """What `SamPredictor` offers beside numpy; torch is imported where tensors are made."""

    engine: Engine
    model: Sam

    @abstractmethod
    def reset_image(self) -> None:
        """Forget the image."""

    @abstractmethod
    def set_pixels(self, pixels: np.ndarray, original_size: Size) -> None:
        """Compute the embedding of an image as the model takes it."""

    @abstractmethod
    def predict_prompts(
        self, prompts: Prompts, multimask_output: bool = False, return_logits: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the masks of prompts in pixels of the frame."""

    @property
    def device(self) -> Any:
        """The `torch.device` of the tensors that come out."""
        return self.model.device

    @property
    def transform(self) -> ResizeLongestSide:
        """What resizes images and maps coordinates into the frame."""
        return ResizeLongestSide(self.engine.framing)

    def set_torch_image(self, transformed_image: "Tensor", original_image_size: Size) -> None:
        """Compute the embedding of an image that is resized already.

        Args:
            transformed_image: (1, 3, h, w), RGB in 0..255, as `transform` makes it.
            original_image_size: height and width of the image before.

        Raises:
            UserError: its size is not what `transform` makes of the original size.
        """
        self.reset_image()
        height, width = map(int, original_image_size)
        frame = Frame((height, width), self.engine.framing)
        image = to_array(transformed_image, "pixels", np.float32)
        if image is None or image.shape != (1, 3, *frame.input_size):
            raise UserError(
                f"Found an image of shape {None if image is None else image.shape}; expected "
                f"{(1, 3, *frame.input_size)}, as transform.apply_image makes it of "
                f"{height} x {width} pixels."
            )
        pixels = normalise_and_pad(image[0].transpose(1, 2, 0), frame.framing)
        self.set_pixels(pixels, frame.original_size)

    def predict_torch(
        self,
        point_coords: "Tensor | None",
        point_labels: "Tensor | None",
        boxes: "Tensor | None" = None,
        mask_input: "Tensor | None" = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple["Tensor", "Tensor", "Tensor"]:
        """Predict the masks of B prompts, whose coordinates `transform` has mapped already.

        Args:
            point_coords: (B, N, 2), x then y in pixels of the frame.
            point_labels: (B, N), as of `predict`.
            boxes: (B, 4), x0 y0 x1 y1 in pixels of the frame.
            mask_input: (B, 1, 4h, 4w) low-resolution logits of earlier predictions.
            multimask_output: three candidate masks instead of one.
            return_logits: logits instead of bool masks.

        Returns:
            masks (B, C, H, W) bool or float32, predicted IoUs (B, C) and low-resolution logits
            (B, C, 4h, 4w).

        Raises:
            UserError: no image is set, or shapes or numbers of prompts do not fit.
        """
        prompts = frame_prompts(point_coords, point_labels, boxes, mask_input)
        results = self.predict_prompts(prompts, multimask_output, return_logits)
        masks, ious, low_res = (to_tensor(part, self.device) for part in results)
        return masks, ious, low_res
