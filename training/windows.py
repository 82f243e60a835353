"""Cutting augmented training windows, image and masks, out of pictures."""

from dataclasses import dataclass

import numpy as np
from pictures import Picture
from PIL import Image, ImageFilter
from recipe import Stage

CANVAS = 512
SMALLEST_AREA = 24  # pixels of a window's mask; anything less is dropped
MEAN = np.array([124, 116, 104], np.uint8)


@dataclass(frozen=True)
class Window:
    """Part of an augmented picture: image uint8 S x S x 3, masks uint8 N x S x S (0 to 255)."""

    image: np.ndarray
    masks: np.ndarray


def cut_window(
    random: np.random.Generator, picture: Picture, bank: list[Picture], stage: Stage
) -> Window:
    """Zoom, place, flip and recolour; sometimes paste objects of other pictures.

    Args:
        picture: what to cut from; has at least one object.
        bank: photographs whose objects may be pasted.
        stage: size of the window, range of zoom, share of pasting.

    Returns:
        A window with at least one mask of `SMALLEST_AREA` pixels or more.
    """
    while True:
        image, masks, filled = _place(random, picture, stage)
        if random.random() < stage.paste_probability:
            for _ in range(random.integers(1, 5)):
                image, masks = _paste(random, image, masks, bank)
        masks = [
            mask for mask in masks if (mask[: filled[0], : filled[1]] >= 128).sum() >= SMALLEST_AREA
        ]
        if masks:
            break
    image, masks = _recolour(random, image), np.stack(masks)
    image[filled[0] :], masks[:, filled[0] :] = MEAN, 0  # the padding stays as it is at inference
    image[:, filled[1] :], masks[:, :, filled[1] :] = MEAN, 0
    if random.random() < 0.5:
        image, masks = image[:, ::-1], masks[..., ::-1]
    return Window(np.ascontiguousarray(image), np.ascontiguousarray(masks))


def _place(random: np.random.Generator, picture: Picture, stage: Stage):
    """Choose scale and position so that some object is in view.

    Returns:
        The image, S x S x 3; the masks, each S x S; the height and width that the picture fills.
    """
    size = stage.window
    height, width = picture.image.shape[:2]
    scale = CANVAS / max(height, width)
    if random.random() < 0.75:
        scale *= np.exp(random.uniform(*np.log(stage.zoom)))
    wanted = picture.objects[random.integers(len(picture.objects))]
    view = size / scale  # side of the window in the picture's pixels
    left = _start(random, wanted.left, wanted.mask.shape[1], view, width)
    top = _start(random, wanted.top, wanted.mask.shape[0], view, height)
    image = np.empty((size, size, 3), np.uint8)
    image[:] = MEAN
    _, _, pixels = _resized(picture.image, -left, -top, scale, size)
    filled = pixels.shape[:2]
    image[: filled[0], : filled[1]] = pixels
    masks = []
    for cutout in picture.objects:
        region = _resized(cutout.mask, cutout.left - left, cutout.top - top, scale, size)
        if region:
            row, column, pixels = region
            mask = np.zeros((size, size), np.uint8)
            mask[row : row + pixels.shape[0], column : column + pixels.shape[1]] = pixels
            masks.append(mask)
    return image, masks, filled


def _start(
    random: np.random.Generator, position: int, extent: int, view: float, limit: int
) -> float:
    """Where the view starts, along one axis, to meet the middle of the object."""
    middle = position + extent * random.uniform(0.25, 0.75)
    start = middle - view * random.uniform(0.1, 0.9)
    return float(np.clip(start, 0, max(0.0, limit - view)))


def _resized(pixels: np.ndarray, left: float, top: float, scale: float, size: int):
    """Resize the part of an array that falls into the window.

    Args:
        pixels: uint8, height x width (x 3).
        left, top: its position relative to the window's corner, in its own pixels.
        scale: window pixels per own pixel.
        size: side of the window.

    Returns:
        (row, column, resized part), or None where nothing of it is in view.
    """
    height, width = pixels.shape[:2]
    column, row = max(0, round(left * scale)), max(0, round(top * scale))
    column_end = min(size, round((left + width) * scale))
    row_end = min(size, round((top + height) * scale))
    if column_end <= column or row_end <= row:
        return None
    box = (
        column / scale - left,
        row / scale - top,
        column_end / scale - left,
        row_end / scale - top,
    )
    box = (max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3]))
    if box[2] - box[0] < 1e-3 or box[3] - box[1] < 1e-3:
        return None
    part = Image.fromarray(pixels).resize((column_end - column, row_end - row), Image.BILINEAR, box)
    return row, column, np.asarray(part)


def _paste(
    random: np.random.Generator, image: np.ndarray, masks: list[np.ndarray], bank: list[Picture]
):
    """Paste one object of the bank somewhere; what it covers is taken from the other masks."""
    source = bank[random.integers(len(bank))]
    cutout = source.objects[random.integers(len(source.objects))]
    height, width = cutout.mask.shape
    if cutout.mask.sum() < 255 * 300:  # too coarse to be enlarged
        return image, masks
    size = len(image)
    extent = np.exp(random.uniform(np.log(14), np.log(size * 0.6)))
    scale = min(extent / np.sqrt(height * width), 1.5)
    new_width, new_height = max(2, round(width * scale)), max(2, round(height * scale))
    left, top = (random.uniform(-0.25, 0.75, 2) * size).astype(int)
    rows, columns = (
        slice(max(0, top), min(size, top + new_height)),
        slice(max(0, left), min(size, left + new_width)),
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return image, masks
    pixels = source.image[cutout.top : cutout.top + height, cutout.left : cutout.left + width]
    pixels = np.asarray(
        Image.fromarray(pixels).resize((new_width, new_height), Image.BILINEAR), np.float32
    )
    alpha = np.asarray(Image.fromarray(cutout.mask).resize((new_width, new_height), Image.BILINEAR))
    if random.random() < 0.5:
        pixels, alpha = pixels[:, ::-1], alpha[:, ::-1]
    inside = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    pixels, alpha = pixels[inside] * random.uniform(0.7, 1.3), alpha[inside]
    image = image.copy()
    share = alpha[..., None].astype(np.float32) / 255
    image[rows, columns] = np.clip(image[rows, columns] * (1 - share) + pixels * share, 0, 255)
    for mask in masks:
        mask[rows, columns] = np.minimum(mask[rows, columns], 255 - alpha)
    pasted = np.zeros((size, size), np.uint8)
    pasted[rows, columns] = alpha
    return image, [*masks, pasted]


def _recolour(random: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Change brightness, contrast, colours; rarely grey, blur, noise. uint8 S x S x 3."""
    if random.random() < 0.1:
        image = np.asarray(
            Image.fromarray(image).filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.5)))
        )
    pixels = image.astype(np.float32)
    grey = (pixels @ np.full(3, 1 / 3, np.float32))[..., None]
    saturation = 0.0 if random.random() < 0.1 else random.uniform(0.5, 1.4)
    pixels = grey + saturation * (pixels - grey)
    level = float(grey.mean())
    gain = random.uniform(0.7, 1.35) * random.uniform(0.88, 1.12, 3).astype(np.float32)
    pixels = level + gain * (pixels - level) + random.uniform(-30, 30)
    if random.random() < 0.1:
        pixels += random.normal(0, random.uniform(1, 10), pixels.shape).astype(np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)
