"""Cutting augmented training windows, image and masks, out of pictures."""

from dataclasses import dataclass

import numpy as np
from pictures import Picture
from PIL import Image, ImageFilter
from recipe import TrainingStage

from carsam.families.mini import IMAGE_SIZE as CANVAS

SMALLEST_AREA = 24  # pixels of a window's mask; anything less is dropped
LARGEST_TURN = 20  # degrees
MEAN = np.array([124, 116, 104], np.uint8)


@dataclass(frozen=True)
class Window:
    """Part of an augmented picture.

    Attributes:
        image: uint8 S x S x 3.
        masks: uint8 N x S x S, 0 to 255.
        boxes: float N x 4, left, top, right, bottom: of the objects, in pixels of the window.
    """

    image: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class View:
    """An affine map from a window to a picture: pixel positions p of the window are at
    `matrix @ p + start` of the picture.
    """

    matrix: np.ndarray
    start: np.ndarray
    size: int

    def sample(self, pixels: np.ndarray, corner: tuple[int, int] = (0, 0)) -> np.ndarray:
        """What the window sees of an array, uint8 height x width (x 3); 0 outside of it.

        Args:
            corner: left and top of the array in the picture.
        """
        window = np.zeros((self.size, self.size, *pixels.shape[2:]), np.uint8)
        height, width = pixels.shape[:2]
        corners = np.array([(0, 0), (width, 0), (0, height), (width, height)]) + corner
        reached = np.linalg.solve(self.matrix, (corners - self.start).T)  # in the window
        left, top = np.floor(reached.min(1)).clip(0, self.size).astype(int)
        right, bottom = np.ceil(reached.max(1)).clip(0, self.size).astype(int)
        if left < right and top < bottom:
            start = self.start + self.matrix @ (left, top) - corner
            window[top:bottom, left:right] = Image.fromarray(pixels).transform(
                (right - left, bottom - top),
                Image.Transform.AFFINE,
                (*self.matrix[0], start[0], *self.matrix[1], start[1]),
                Image.Resampling.BILINEAR,
            )
        return window

    def box(self, box: tuple[float, ...]) -> np.ndarray:
        """A box of the picture in the window; NaN if the window is turned and it is none there."""
        if self.matrix[0, 1]:
            return np.full(4, np.nan)
        corners = (np.reshape(box, (2, 2)) - self.start) / self.matrix.diagonal()
        return np.concatenate([corners.min(0), corners.max(0)])


def cut_window(
    random: np.random.Generator, picture: Picture, bank: list[Picture], stage: TrainingStage
) -> Window:
    """Zoom, stretch, turn, place, flip and recolour; sometimes paste objects of other pictures.

    Args:
        picture: what to cut from; has at least one object.
        bank: photographs whose objects may be pasted.
        stage: size of the window, range of zoom, shares of turning and pasting.

    Returns:
        A window with at least one mask of `SMALLEST_AREA` pixels or more.
    """
    while True:
        view = _view(random, picture, stage)
        image = view.sample(picture.image)
        filled = view.sample(np.full(picture.image.shape[:2], 255, np.uint8)) >= 128
        masks = [view.sample(part.mask, (part.left, part.top)) for part in picture.objects]
        boxes = [view.box(part.box) for part in picture.objects]
        if random.random() < stage.paste_probability:
            for _ in range(random.integers(1, 5)):
                image, masks = _paste(random, image, masks, bank)
        boxes += [np.full(4, np.nan)] * (len(masks) - len(boxes))
        kept = [i for i, mask in enumerate(masks) if (mask[filled] >= 128).sum() >= SMALLEST_AREA]
        if kept:
            break
    image = np.where(filled[..., None], recolour(random, image), MEAN)  # as at inference
    masks = np.where(filled, np.stack([masks[i] for i in kept]), np.uint8(0))
    exact = [_box(mask, boxes[i]) for i, mask in zip(kept, masks, strict=True)]
    return Window(image, masks, np.stack(exact))


def _view(random: np.random.Generator, picture: Picture, stage: TrainingStage) -> View:
    """Choose scale, turn and position so that some object is in view."""
    height, width = picture.image.shape[:2]
    sides = (width, height) if stage.squashed else max(width, height)
    scale = CANVAS / np.broadcast_to(sides, 2)
    if random.random() < 0.75:
        scale = scale * np.exp(random.uniform(*np.log(stage.zoom)))
    stretch = np.exp(random.uniform(-0.5, 0.5) * np.log(stage.stretch))
    steps = np.array([stretch, 1 / stretch]) / scale  # pixels of the picture per pixel
    angle = 0.0
    if random.random() < stage.turned:
        angle = np.deg2rad(random.uniform(-LARGEST_TURN, LARGEST_TURN))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = turn * steps
    wanted = picture.objects[random.integers(len(picture.objects))]
    extent = steps * stage.window
    start = np.array(
        [
            _start(random, wanted.left, wanted.mask.shape[1], extent[0], width),
            _start(random, wanted.top, wanted.mask.shape[0], extent[1], height),
        ]
    )
    if angle:  # about the middle of the window
        middle = np.full(2, stage.window / 2)
        start = start + steps * middle - matrix @ middle
    if random.random() < 0.5:
        start = start + matrix[:, 0] * stage.window
        matrix = matrix * [-1, 1]
    return View(matrix, start, stage.window)


def _start(
    random: np.random.Generator, position: int, extent: int, view: float, limit: int
) -> float:
    """Where the view starts, along one axis, to meet the middle of the object."""
    middle = position + extent * random.uniform(0.25, 0.75)
    start = middle - view * random.uniform(0.1, 0.9)
    return float(np.clip(start, 0, max(0.0, limit - view)))


def _box(mask: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom edge of a mask, uint8 S x S.

    Pixels tell an edge to a pixel or so; where the object's whole extent is in view the annotated
    box, which is finer, tells it better.
    """
    inside = mask >= 128
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
    return np.where(np.abs(annotated - found) <= 2, annotated, found).clip(0, len(mask))


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


def recolour(random: np.random.Generator, image: np.ndarray) -> np.ndarray:
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
