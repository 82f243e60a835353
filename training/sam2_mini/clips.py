"""Pseudo-videos: a picture under a moving camera, and cut-out objects on paths of their own.

Objects cover one another, leave and come back; some have a double that must not be mistaken for
them. The same random numbers give the same clip.
"""

from dataclasses import dataclass

import numpy as np
import torch
from pictures import Picture
from torch import Tensor
from torch.nn import functional
from windows import CANVAS, recolour

SMALLEST_CUTOUT = 900  # pixels; anything smaller is too coarse to be seen near by
SMALLEST_OBJECT = 64  # pixels of a clip in which an object counts as seen


@dataclass(frozen=True)
class Clip:
    """Frames and the visible part of every object.

    Attributes:
        frames: uint8, F x 3 x S x S.
        masks: bool, N x F x S x S; a pixel belongs to one object at most.
    """

    frames: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class Motion:
    """Smooth paths of some numbers: start + speed t + swing sin(rate t + phase), each (n,)."""

    start: np.ndarray
    speed: np.ndarray
    swing: np.ndarray
    rate: np.ndarray
    phase: np.ndarray

    @classmethod
    def draw(cls, random: np.random.Generator, start: np.ndarray, spread: np.ndarray) -> "Motion":
        """Random paths from `start`, that move by about `spread` a frame, often much less."""
        size = len(start)
        scale = spread * np.exp(random.uniform(-2.5, 0.3))
        rate = random.uniform(0.2, 0.9, size)
        return cls(
            start,
            random.normal(0, 0.6, size) * scale,
            random.normal(0, 0.6, size) * scale / rate,
            rate,
            random.uniform(0, 2 * np.pi, size),
        )

    def at(self, time: float) -> np.ndarray:
        waves = np.sin(self.rate * time + self.phase) - np.sin(self.phase)
        return self.start + self.speed * time + self.swing * waves


@dataclass(frozen=True)
class Layer:
    """Something drawn, and how it moves: x and y of its middle in pixels of the clip, the logarithm
    of its scale, its angle, and the strength of two waves that bend it.

    Attributes:
        pixels: float, 3 + n x height x width: colours, then shares of n objects; opaque where the
            first one is, if it is a cut-out.
        stretch: of the scales along x and y.
    """

    pixels: Tensor
    motion: Motion
    stretch: np.ndarray
    waves: np.ndarray  # 2 x 2, cycles per clip side along x and y

    def drawn(self, time: float, size: int, padding: str) -> Tensor:
        """The layer in a frame, 3 + n x size x size; outside of it zeros, or its reflection."""
        x, y, scale, angle, *bends = self.motion.at(time)
        places = torch.arange(size, dtype=torch.float32) + 0.5
        down, across = torch.meshgrid(places, places, indexing="ij")
        for bend, wave in zip(bends, self.waves, strict=True):
            shift = bend * torch.sin((wave[0] * across + wave[1] * down) * (2 * np.pi / size))
            across, down = across + shift * wave[1], down - shift * wave[0]
        across, down = across - x, down - y
        cosine, sine = np.cos(angle) / np.exp(scale), np.sin(angle) / np.exp(scale)
        height, width = self.pixels.shape[1:]
        grid = torch.stack(
            [
                (cosine * across + sine * down) / (self.stretch[0] * width / 2),
                (cosine * down - sine * across) / (self.stretch[1] * height / 2),
            ],
            -1,
        )
        return functional.grid_sample(
            self.pixels[None], grid[None], padding_mode=padding, align_corners=False
        )[0]


def make_clip(
    random: np.random.Generator, picture: Picture, bank: list[Picture], size: int, frames: int
) -> Clip:
    """Draw a clip of `frames` frames, size x size pixels of a canvas.

    Args:
        picture: the background, whose objects move with it.
        bank: pictures whose objects are pasted.
    """
    background, own = _background(random, picture, size)
    layers = []
    for _ in range(random.integers(1, 4)):
        layers.append(_pasted(random, bank, size))
        if random.random() < 0.25:
            layers.append(_double(random, layers[-1], size))
    order = random.permutation(len(layers))
    blurred, seed = random.random() < 0.25, random.integers(2**31)
    drift = random.normal(0, 0.01, 3)
    images, masks = [], []
    for time in range(frames):
        moments = (time - 0.3, time, time + 0.3) if blurred else (time,)
        drawn = [_composed(background, own, [layers[i] for i in order], t, size) for t in moments]
        colours = torch.stack([image for image, _ in drawn]).mean(0)
        image = colours.permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy()
        image = recolour(np.random.default_rng(seed), image) * (1 + drift * time)
        images.append(np.clip(image, 0, 255).astype(np.uint8).transpose(2, 0, 1))
        masks.append((drawn[len(drawn) // 2][1] >= 0.5).numpy())
    return Clip(np.stack(images), np.stack(masks, 1))


def seen(masks: np.ndarray) -> np.ndarray:
    """Whether objects are seen, from masks ... x S x S."""
    return masks.sum((-2, -1)) >= SMALLEST_OBJECT


def _composed(
    background: Layer, own: Layer, layers: list[Layer], time: float, size: int
) -> tuple[Tensor, Tensor]:
    """Colours 3 x S x S and the visible share of the objects, those of the picture first."""
    image = background.drawn(time, size, "reflection")
    shares = list(own.drawn(time, size, "zeros"))
    for layer in layers:
        *colours, share = layer.drawn(time, size, "zeros")
        image = image * (1 - share) + torch.stack(colours) * share
        shares = [other * (1 - share) for other in shares] + [share]
    return image, torch.stack(shares) if shares else torch.zeros(0, size, size)


def _background(random: np.random.Generator, picture: Picture, size: int) -> tuple[Layer, Layer]:
    """The picture squashed into the canvas under a moving camera, and the masks of up to two of its
    objects.
    """
    height, width = picture.image.shape[:2]
    zoom = np.exp(random.uniform(np.log(size / CANVAS), np.log(1.5)))
    zoom = max(zoom, size / CANVAS)
    stretch = zoom * CANVAS / np.array([width, height])
    large = [part for part in picture.objects if part.mask.sum() >= 255 * 200]
    chosen = [large[i] for i in random.permutation(len(large))[: random.integers(1, 3)]]
    middle = np.full(2, size / 2)
    if chosen:  # bring the first one into view
        part = chosen[0]
        place = np.array([part.left, part.top]) + np.array(part.mask.shape[::-1]) / 2
        shift = (np.array([width, height]) / 2 - place) * stretch
        room = np.maximum(stretch * (width, height) - size, 0) / 2
        middle = middle + np.clip(shift + random.normal(0, size / 6, 2), -room, room)
    spread = np.array([0.06 * size, 0.06 * size, 0.03, 0.03, 0.002 * size, 0.002 * size])
    motion = Motion.draw(random, np.array([*middle, 0, 0, 0, 0]), spread)
    waves = random.uniform(-1, 1, (2, 2))
    image = torch.tensor(picture.image).permute(2, 0, 1).float()
    masks = torch.zeros(len(chosen), height, width)
    for mask, part in zip(masks, chosen, strict=True):
        rows, columns = part.mask.shape
        box = slice(part.top, part.top + rows), slice(part.left, part.left + columns)
        mask[box] = torch.tensor(part.mask).float() / 255
    taken = torch.zeros(height, width)
    for mask in masks:  # what annotations share belongs to the first
        mask.mul_(1 - taken)
        taken = taken + mask
    return Layer(image, motion, stretch, waves), Layer(masks, motion, stretch, waves)


def _pasted(random: np.random.Generator, bank: list[Picture], size: int) -> Layer:
    """An object of some picture on a path of its own."""
    while True:
        source = bank[random.integers(len(bank))]
        part = source.objects[random.integers(len(source.objects))]
        if part.mask.sum() >= 255 * SMALLEST_CUTOUT:
            break
    height, width = part.mask.shape
    box = slice(part.top, part.top + height), slice(part.left, part.left + width)
    colours = torch.tensor(source.image[box]).permute(2, 0, 1).float()
    colours = colours * random.uniform(0.7, 1.3)
    share = torch.tensor(part.mask)[None].float() / 255
    extent = np.exp(random.uniform(np.log(0.08 * size), np.log(0.6 * size)))
    scale = min(extent / np.sqrt(height * width), 2.5)
    stretch = scale * np.exp(random.uniform(-0.2, 0.2, 2)) * [random.choice([-1, 1]), 1]
    spread = np.array([0.09 * size, 0.09 * size, 0.05, 0.06, 0.004 * size, 0.004 * size])
    start = np.array([*random.uniform(0.1, 0.9, 2) * size, 0, random.normal(0, 0.15), 0, 0])
    motion = Motion.draw(random, start, spread)
    return Layer(torch.cat([colours, share]), motion, stretch, random.uniform(-3, 3, (2, 2)))


def _double(random: np.random.Generator, layer: Layer, size: int) -> Layer:
    """The same object again, elsewhere."""
    start = layer.motion.start.copy()
    start[:2] += random.choice([-1, 1], 2) * random.uniform(0.15, 0.5, 2) * size
    spread = np.array([0.09 * size, 0.09 * size, 0.05, 0.06, 0, 0])
    motion = Motion.draw(random, start, spread)
    return Layer(layer.pixels, motion, layer.stretch, layer.waves)
