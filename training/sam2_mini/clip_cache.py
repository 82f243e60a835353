"""Clips on disk, with what the frozen encoder makes of their frames."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from samples import CLOSE_UP, LOW_RESOLUTION, picture_shares
from torch import Tensor, nn
from windows import CANVAS

from sam2_mini.clips import make_clip, seen
from sam2_mini.decoder import Levels, fine_levels
from sam2_mini.hiera import GRID, CanvasHiera
from sam2_mini.part import Pictures
from sam2_mini.rounded import Rounded

SCENE_SHARE = 0.15


class ClipBatch(NamedTuple):
    """T frames of B objects, each in a clip of its own, all at one place of the canvas.

    Attributes:
        levels: float16, each T x B x channels x rows x columns.
        masks: float32, T x B x S x S, 0 or 1; all zero where the object is not seen.
        offset: row and column on the canvas, in pixels.
        boxes: float32, B x 4, of the first masks.
        points: float32, B x 2, x and y inside of the first masks.
        shares: float32, T x B x S/4 x S/4, the masks as `losses.mask_loss` takes them.
        close_up_boxes: float32, T x B x 4.
        close_ups: float32, T x B x 40 x 40.
    """

    levels: Levels
    masks: Tensor
    offset: tuple[int, int]
    boxes: Tensor
    points: Tensor
    shares: Tensor
    close_up_boxes: Tensor
    close_ups: Tensor


class Encoding(nn.Module):
    """The levels of windows, as the decoder reads them, without a memory."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.hiera, self.decoder = CanvasHiera(model.vision_encoder), model.mask_decoder

    def forward(self, image: Tensor, offset: tuple[int, int]) -> Levels:
        return fine_levels(self.decoder, self.hiera(image, offset))


class ClipCache:
    """`count` clips of `frames` frames, made when they are first wanted.

    Clip i has its own random numbers and stands at place i of the canvas, counted round.

    Args:
        folder: gets a file for every clip; of one encoder only.
        model: whose encoder does not change while the cache is in use.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        pictures: Pictures,
        window: int,
        count: int,
        frames: int,
        seed: int,
    ):
        self.folder, self.window, self.frames = folder, window, frames
        self.count, self.seed, self.pictures = count, seed, pictures
        self.shares = [picture_shares(part) for part in pictures]
        self.encode = Rounded(Encoding(model))
        folder.mkdir(parents=True, exist_ok=True)

    def draw(self, random: np.random.Generator, objects: int, length: int) -> ClipBatch:
        """Draw a batch of `objects` objects in `length` frames, forwards or backwards in time."""
        sides = (CANVAS - self.window) // GRID + 1
        place = random.integers(sides**2)
        offset = (GRID * int(place // sides), GRID * int(place % sides))
        clips = range(int(place), self.count, sides**2)
        parts: list[tuple[list[Tensor], np.ndarray]] = []
        while len(parts) < objects:
            path = self._file(clips[random.integers(len(clips))], offset)
            part = self._object(random, path, length)
            if part is not None:
                parts.append(part)
        levels = Levels(
            *(torch.stack(level, 1) for level in zip(*(p[0] for p in parts), strict=True))
        )
        masks = np.stack([part[1] for part in parts], 1)  # T x B x S x S
        return _batch(random, levels, masks, offset)

    def _object(
        self, random: np.random.Generator, path: Path, length: int
    ) -> tuple[list[Tensor], np.ndarray] | None:
        """Levels and masks of one object that is seen in the first of the frames drawn."""
        with safe_open(path, "pt") as file:
            bits = file.get_tensor("masks").numpy()
            masks = np.unpackbits(bits, -1).astype(bool)  # N x F x S x S
            stride = random.integers(1, max(1, min(3, (self.frames - 1) // (length - 1))) + 1)
            start = random.integers(self.frames - stride * (length - 1))
            order = np.arange(start, start + stride * (length - 1) + 1, stride)
            if random.random() < 0.5:
                order = order[::-1]
            candidates = np.flatnonzero(seen(masks[:, order[0]]))
            if not len(candidates):
                return None
            chosen = masks[random.choice(candidates), order]
            levels = [
                torch.stack([file.get_slice(name)[int(t)] for t in order])
                for name in Levels._fields
            ]
        return levels, chosen & seen(chosen)[:, None, None]

    def _file(self, number: int, offset: tuple[int, int]) -> Path:
        """The file of a clip, which is written if it is not there."""
        path = self.folder / f"{number:05}.safetensors"
        if not path.exists():
            random = np.random.default_rng([self.seed, 3, self.window, number])
            kind = int(random.random() < SCENE_SHARE)
            picture = self.pictures[kind][
                random.choice(len(self.shares[kind]), p=self.shares[kind])
            ]
            clip = make_clip(random, picture, self.pictures.photographs, self.window, self.frames)
            with torch.no_grad():
                levels = self.encode(torch.from_numpy(clip.frames), offset)
            tensors = {name: level.half().contiguous() for name, level in levels._asdict().items()}
            tensors["masks"] = torch.from_numpy(np.packbits(clip.masks, -1))
            unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
            save_file(tensors, unfinished)
            os.replace(unfinished, path)
        return path


def _batch(
    random: np.random.Generator, levels: Levels, masks: np.ndarray, offset: tuple[int, int]
) -> ClipBatch:
    """Prompts and targets of masks, bool T x B x S x S."""
    size = masks.shape[-1]
    boxes, points = [], []
    for mask in masks[0]:
        rows, columns = np.nonzero(mask)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
        sides = np.tile(box[2:] - box[:2], 2)
        boxes.append(np.clip(box + random.normal(0, 0.02, 4) * sides, 0, size))
        some = random.integers(len(rows), size=8)
        middle = np.argmin((rows[some] - rows.mean()) ** 2 + (columns[some] - columns.mean()) ** 2)
        points.append([columns[some[middle]], rows[some[middle]]])
    flat = masks.reshape(-1, size, size).astype(np.uint8) * 255
    around = np.stack([_surroundings(mask, size) for mask in flat])
    images = [Image.fromarray(mask) for mask in flat]
    shares = np.stack([np.asarray(image.reduce(LOW_RESOLUTION)) for image in images])
    close_ups = [
        np.asarray(image.resize((CLOSE_UP, CLOSE_UP), Image.BILINEAR, tuple(map(float, box))))
        for image, box in zip(images, around, strict=True)
    ]

    def of_frames(values) -> Tensor:
        tensor = torch.from_numpy(np.stack(values).astype(np.float32))
        return tensor.unflatten(0, masks.shape[:2])

    return ClipBatch(
        levels,
        torch.from_numpy(masks.astype(np.float32)),
        offset,
        torch.from_numpy(np.stack(boxes).astype(np.float32)),
        torch.tensor(points, dtype=torch.float32),
        of_frames(shares) / 255,
        of_frames(around),
        of_frames(close_ups) / 255,
    )


def _surroundings(mask: np.ndarray, size: int) -> np.ndarray:
    """A box somewhat larger than a mask's; the whole frame where there is none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.array([0, 0, size, size])
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    margin = 0.2 * np.maximum(np.tile(box[2:] - box[:2], 2), 8)
    return np.clip(box + np.array([-1, -1, 1, 1]) * margin, 0, size)
