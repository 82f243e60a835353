"""The way into and out of a model's square input frame: pixels and coordinates.

Numbers follow segment-anything's `ResizeLongestSide` and `Sam.preprocess`, and SAM 2's
`SAM2Transforms`.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

Colour = tuple[float, float, float]
"""RGB in 0..255."""

MEAN: Colour = (123.675, 116.28, 103.53)
DEVIATION: Colour = (58.395, 57.12, 57.375)
"""Mean and standard deviation of SAM's training images."""

GREY: Colour = (127.5, 127.5, 127.5)
"""Both for SAM 3."""

PIXEL_MEAN, PIXEL_STD = (np.array(colour, np.float32) for colour in (MEAN, DEVIATION))


@dataclass(frozen=True)
class Framing:
    """How a model's square input is filled.

    Args:
        side: S of the input S x S, in pixels.
        stretched: both sides of an image become S, without rounding to 8 bits, as SAM 2 wants
            it; otherwise the longer side does, and zeros fill the rest, as SAM wants it.
        mean, deviation: that pixels are normalised by.
    """

    side: int
    stretched: bool = False
    mean: Colour = MEAN
    deviation: Colour = DEVIATION

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width, at least 1, that an image of this height and width gets."""
        if self.stretched:
            return self.side, self.side
        height, width = size
        scale = self.side * 1.0 / max(height, width)
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


@dataclass(frozen=True)
class Frame:
    """Where one image lies in the model's square input: the top left `input_size` pixels of S x S.

    Args:
        original_size: height and width of the image.
        framing: of the model.
    """

    original_size: tuple[int, int]
    framing: Framing

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the resized image."""
        return self.framing.resized(self.original_size)

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2), x then y in pixels of the image, into the frame, as float32."""
        (height, width), (input_height, input_width) = self.original_size, self.input_size
        scale = np.array([input_width / width, input_height / height])
        return (np.asarray(points, np.float64) * scale).astype(np.float32)

    def map_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes (..., 4), x0 y0 x1 y1 in pixels of the image, into the frame, as float32."""
        boxes = np.asarray(boxes)
        return self.map_points(boxes.reshape(*boxes.shape[:-1], 2, 2)).reshape(boxes.shape)

    def unmap_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Undo `map_boxes`."""
        (height, width), (input_height, input_width) = self.original_size, self.input_size
        scale = np.array([width / input_width, height / input_height] * 2)
        return (np.asarray(boxes, np.float64) * scale).astype(np.float32)


def preprocess(image: np.ndarray, framing: Framing) -> tuple[np.ndarray, Frame]:
    """Turn an RGB uint8 image (H, W, 3) into the model's pixels (3, S, S) float32 and its frame."""
    frame = Frame((image.shape[0], image.shape[1]), framing)
    return normalise_and_pad(resize(image, framing), framing), frame


def resize(image: np.ndarray, framing: Framing) -> np.ndarray:
    """Resize an RGB uint8 image (H, W, 3) as the model wants it: uint8, or float32 if stretched.

    Pillow's bilinear filter, which averages when it shrinks, is the one SAM was trained with.
    """
    size = framing.resized((image.shape[0], image.shape[1]))
    return resize_pillow(Image.fromarray(image), size, framing)


def resize_pillow(image: Image.Image, size: tuple[int, int], framing: Framing) -> np.ndarray:
    """Resize an RGB image of Pillow to a height and width, as `resize` does."""
    extent, bilinear = size[::-1], Image.Resampling.BILINEAR
    if not framing.stretched:
        return np.asarray(image.resize(extent, bilinear))
    bands = np.empty((3, *size), np.float32)
    for place, band in enumerate(bands):
        band[:] = np.asarray(image.getchannel(place).convert("F").resize(extent, bilinear))
    return bands.transpose(1, 2, 0)


def normalise_and_pad(image: np.ndarray, framing: Framing) -> np.ndarray:
    """Normalise an RGB image (h, w, 3) in 0..255; pad it with zeros to (3, S, S) float32."""
    height, width, _ = image.shape
    pixels = np.zeros((3, framing.side, framing.side), np.float32)
    mean, deviation = (np.array(c, np.float32) for c in (framing.mean, framing.deviation))
    # Channel by channel: whole images that lie channel last take three times as long.
    for place, channel, centre, spread in zip(
        pixels[:, :height, :width], np.moveaxis(image, -1, 0), mean, deviation, strict=True
    ):
        np.subtract(channel, centre, out=place)
        place /= spread
    return pixels
