"""SAM's way into and out of the square input frame: pixels, coordinates, masks.

Numbers follow segment-anything's `ResizeLongestSide`, `Sam.preprocess` and `Sam.postprocess_masks`.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from carsam.runtime.kernels import weighted_rows

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
"""Mean of SAM's training images, RGB in 0..255."""

PIXEL_STD = np.array([58.395, 57.12, 57.375], np.float32)
"""Standard deviation of SAM's training images, RGB in 0..255."""


@dataclass(frozen=True)
class Frame:
    """Where one image lies in the model's square input: the top left `input_size` pixels of S x S.

    Args:
        original_size: height and width of the image.
        image_size: side S of the model's input.
    """

    original_size: tuple[int, int]
    image_size: int

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the resized image; the longer is S, the shorter at least 1."""
        height, width = self.original_size
        scale = self.image_size * 1.0 / max(height, width)
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2), x then y in pixels of the image, into the frame, as float32."""
        (height, width), (input_height, input_width) = self.original_size, self.input_size
        scale = np.array([input_width / width, input_height / height])
        return (np.asarray(points, np.float64) * scale).astype(np.float32)

    def map_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes (..., 4), x0 y0 x1 y1 in pixels of the image, into the frame, as float32."""
        boxes = np.asarray(boxes)
        return self.map_points(boxes.reshape(*boxes.shape[:-1], 2, 2)).reshape(boxes.shape)


def preprocess(image: np.ndarray, image_size: int) -> tuple[np.ndarray, Frame]:
    """Turn an RGB uint8 image (H, W, 3) into the model's pixels (3, S, S) float32 and its frame."""
    frame = Frame((image.shape[0], image.shape[1]), image_size)
    return normalise_and_pad(resize_longest_side(image, image_size), image_size), frame


def resize_longest_side(image: np.ndarray, size: int) -> np.ndarray:
    """Resize an RGB uint8 image (H, W, 3) so that its longer side has `size` pixels.

    Pillow's bilinear filter, which averages when it shrinks, is the one SAM was trained with.
    """
    height, width = Frame((image.shape[0], image.shape[1]), size).input_size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def normalise_and_pad(image: np.ndarray, size: int) -> np.ndarray:
    """Normalise an RGB uint8 image (h, w, 3); pad it with zeros to (3, size, size) float32."""
    height, width, _ = image.shape
    pixels = np.zeros((3, size, size), np.float32)
    pixels[:, :height, :width] = ((image - PIXEL_MEAN) / PIXEL_STD).transpose(2, 0, 1)
    return pixels


def upscale_masks(low_res: np.ndarray, frame: Frame, return_logits: bool = True) -> np.ndarray:
    """Bring mask logits (..., 4h, 4w) to the original size: SAM's `postprocess_masks`.

    SAM interpolates to S x S, cuts the padding off and interpolates to the original size. All
    of it is linear and separable: a row of the result is a weighted sum of two to four
    neighbouring rows, and so is a column. Masks are treated one by one, so that besides the result
    only one mask of logits is in memory.

    Returns:
        (..., H, W) float32 logits, or with `return_logits=False` bool, true where logits > 0.
    """
    (height, width), (input_height, input_width) = frame.original_size, frame.input_size
    *leading, low_height, low_width = low_res.shape
    rows = _axis_taps(low_height, frame.image_size, input_height, height)
    columns = _axis_taps(low_width, frame.image_size, input_width, width)
    masks = np.empty((*leading, height, width), np.float32 if return_logits else np.bool_)
    for index in np.ndindex(*leading):
        wide = weighted_rows(low_res[index].T, *columns).T  # (4h, W)
        logits = weighted_rows(wide, *rows)
        masks[index] = logits if return_logits else logits > 0
    return masks


def _axis_taps(low: int, padded: int, cropped: int, original: int) -> tuple[np.ndarray, np.ndarray]:
    """Return low -> padded, cut to `cropped`, -> original pixels: sources and their weights.

    Both are (original, taps), int32 and float32.
    """
    first, taps = np.arange(low), np.ones((low, 1), np.float32)
    for source, target, kept in ((low, padded, cropped), (cropped, original, original)):
        lower, upper, weight = (part[:kept] for part in _bilinear_taps(source, target))
        shift = first[upper] - first[lower]
        combined = np.zeros((kept, taps.shape[1] + shift.max()), np.float32)
        places = np.arange(kept)[:, None], np.arange(taps.shape[1])
        combined[places] += taps[lower] * (1 - weight)
        combined[places[0], places[1] + shift[:, None]] += taps[upper] * weight
        first, taps = first[lower], combined
    # Beyond the last source the weights are 0.
    return np.minimum(first[:, None] + np.arange(taps.shape[1]), low - 1).astype(np.int32), taps


def _bilinear_taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lower and upper source index (target,) and the upper one's weight (target, 1).

    The positions are rounded to float32 as torch's are for `align_corners=False`: scale first,
    then the fused product and sum. Better ones would differ from SAM's where logits change fast.
    """
    scale = np.float64(np.float32(source) / np.float32(target))
    position = (scale * (np.arange(target) + 0.5) - 0.5).astype(np.float32)
    position = np.maximum(position, 0)
    lower = np.minimum(position.astype(np.int64), source - 1)
    upper = np.minimum(lower + 1, source - 1)
    return lower, upper, (position - lower.astype(np.float32))[:, None]
