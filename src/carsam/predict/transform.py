"""segment-anything's `ResizeLongestSide`: images and coordinates on their way into the frame."""

from typing import TYPE_CHECKING, Any

import numpy as np

from carsam.images.preprocess import Framing, resize
from carsam.predict.tensors import torch_module

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]
"""Height and width, in pixels."""


class ResizeLongestSide:
    """Resizes images and maps coordinates, with the names of segment-anything.

    Args:
        target_length: side of the model's square input, or how it is filled, as SAM 2 stretches
            images.
    """

    def __init__(self, target_length: int | Framing) -> None:
        framing = target_length if isinstance(target_length, Framing) else Framing(target_length)
        self._framing, self.target_length = framing, framing.side

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize an RGB uint8 image (H, W, 3)."""
        return np.array(resize(image, self._framing))  # Pillow's pixels cannot be written to

    def apply_coords(self, coords: np.ndarray, original_size: Size) -> np.ndarray:
        """Map points (..., 2), x then y in pixels of the image, into the frame, as float64."""
        return np.array(coords, np.float64) * self._scale(original_size)

    def apply_boxes(self, boxes: np.ndarray, original_size: Size) -> np.ndarray:
        """Map boxes (B, 4), x0 y0 x1 y1 in pixels of the image, into the frame, as float64."""
        return self.apply_coords(np.reshape(boxes, (-1, 2, 2)), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: "Tensor") -> "Tensor":
        """Resize a batch (B, 3, H, W) of float tensors; not with the bits of `apply_image`."""
        size = self._framing.resized((image.shape[2], image.shape[3]))
        resized: Tensor = torch_module().nn.functional.interpolate(
            image, size, mode="bilinear", align_corners=False, antialias=True
        )
        return resized

    def apply_coords_torch(self, coords: "Tensor", original_size: Size) -> "Tensor":
        """Map points (..., 2) into the frame, as float32."""
        mapped = coords.to(torch_module().float32).clone()
        for axis, factor in enumerate(self._scale(original_size).tolist()):
            mapped[..., axis] *= factor
        return mapped

    def apply_boxes_torch(self, boxes: "Tensor", original_size: Size) -> "Tensor":
        """Map boxes (B, 4) into the frame, as float32."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> Size:
        """Return the size that an image gets whose longest side becomes so long."""
        return Framing(long_side_length).resized((oldh, oldw))

    def _scale(self, original_size: Any) -> np.ndarray:
        """Return the factors of x and y."""
        height, width = original_size
        input_height, input_width = self._framing.resized((height, width))
        return np.array([input_width / width, input_height / height])
