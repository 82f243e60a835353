"""A model with a memory in a few lines of numpy, with random weights, and painted clips for it.

It does what SAM 2 does, smaller: an embedding attends to remembered tokens, a decoder makes masks,
scores and pointers from it and the prompts, an encoder makes tokens of masks. It follows nothing in
earnest; every part of what goes in changes what comes out.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from carsam.engines.base import Embedding
from carsam.engines.video import MemoryNumbers, Recollection, Tracked
from carsam.images.preprocess import Framing
from carsam.images.prompts import Prompts

SIDE, CELLS, WIDTH, TOKEN = 64, 4, 8, 4
HEIGHT, BREADTH = 48, 80


class TinyVideoEngine:
    """Implements `carsam.engines.video.VideoEngine`."""

    mode = "float"
    framing = Framing(SIDE, stretched=True)
    fingerprint = "tiny"

    def __init__(self, conditioning: int = -1, absent: bool = False) -> None:
        generator = np.random.default_rng(5)

        def weights(*shape: int) -> np.ndarray:
            return generator.normal(size=shape).astype(np.float32)

        self.absent = absent
        self.encoded = 0
        self.pixel, self.query, self.key = weights(WIDTH, 3), weights(WIDTH, 6), weights(TOKEN, 6)
        self.value, self.turn = weights(TOKEN, WIDTH), weights(CELLS**2, 6)
        self.no_memory, self.point, self.corner = (
            weights(WIDTH, 1, 1),
            weights(4, WIDTH),
            weights(2),
        )
        self.heads, self.tone, self.pointer = (
            weights(4, WIDTH),
            weights(4, 3),
            weights(WIDTH, WIDTH),
        )
        self.token, self.mask_token = weights(WIDTH, TOKEN), weights(TOKEN)
        self.positions, self.absence = weights(CELLS**2, TOKEN), weights(TOKEN)
        self.memory = MemoryNumbers(
            frames=4,
            conditioning=conditioning,
            pointers=6,
            mask_scale=20.0,
            mask_bias=-10.0,
            mask_side=SIDE,
            points=(0, 1),
            frame_times=weights(4, TOKEN),
            pointer_times=(weights(TOKEN, WIDTH), weights(TOKEN)),
            no_pointer=weights(WIDTH),
            mask_kernel=(weights(4, 4), 0.5),
        )

    def encode(self, pixels: np.ndarray) -> Embedding:
        self.encoded += 1
        image = np.tanh(np.einsum("cd,dhw->chw", self.pixel, _pooled(pixels, CELLS)))
        return image, _pooled(pixels, 4 * CELLS)

    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        found = self.track(self.recall(embedding, None), prompts, multimask_output)
        return found.masks, found.ious

    def recall(self, embedding: Embedding, memory: Recollection | None) -> Embedding:
        image, fine = embedding
        if memory is None:
            return image + self.no_memory, fine
        turned = np.where(memory.cells[:, None] >= 0, self.turn[memory.cells], 0)
        keys = (memory.values + memory.positions) @ self.key + turned
        products = (image.reshape(WIDTH, -1).T @ self.query + self.turn) @ keys.T
        shares = np.exp(products - products.max(1, keepdims=True))
        attended = shares / shares.sum(1, keepdims=True) @ memory.values @ self.value
        return image + np.tanh(attended).T.reshape(image.shape), fine

    def track(self, embedding: Embedding, prompts: Prompts, multimask_output: bool) -> Tracked:
        image, fine = embedding
        prompt = np.zeros(WIDTH, np.float32)
        if prompts.points is not None and prompts.labels is not None:
            for place, label in zip(prompts.points[0], prompts.labels[0], strict=True):
                prompt = prompt + self.point[label] * np.cos(place @ self.corner / SIDE)
        if prompts.boxes is not None:
            for place in prompts.boxes[0].reshape(2, 2):
                prompt = prompt + self.point[2] * np.sin(place @ self.corner / SIDE)
        if prompts.masks is not None:
            image = image + np.tanh(_pooled(prompts.masks, CELLS))
            fine = fine + np.tanh(prompts.masks)
        tokens = np.tanh(self.heads * (prompt + image.mean((1, 2))))  # (4, C)
        coarse = np.einsum("mc,chw->mhw", tokens, image).repeat(4, 1).repeat(4, 2)
        masks = coarse + np.einsum("mc,chw->mhw", self.tone, fine)
        kept = slice(1, 4) if multimask_output else slice(0, 1)
        score = np.float32(-1 if self.absent else 1)
        return Tracked(
            masks[None, kept].astype(np.float32),
            np.tanh(tokens[None, kept].sum(2)),
            np.array([[score]]),
            (tokens[None, kept] @ self.pointer).astype(np.float32),
        )

    def remember(
        self, embedding: Embedding, masks: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        seen = embedding[0].reshape(WIDTH, -1).T @ self.token
        tokens = [
            np.tanh(seen + _pooled(mask[None], CELLS).reshape(-1, 1) * self.mask_token / 10)
            + (score[0] <= 0) * self.absence
            for mask, score in zip(masks, scores, strict=True)
        ]
        return np.stack(tokens).astype(np.float32), self.positions


def _pooled(values: np.ndarray, cells: int) -> np.ndarray:
    step = values.shape[1] // cells
    return values.reshape(len(values), cells, step, cells, step).mean((2, 4))


def painted_clip(frames: int = 8, objects: int = 2) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return frames (H, W, 3) and labels (H, W) uint8 of squares that move on noise."""
    generator = np.random.default_rng(3)
    ground = generator.integers(0, 90, (HEIGHT, BREADTH, 3), dtype=np.uint8)
    images, labels = [], []
    for time in range(frames):
        image, label = np.roll(ground, time, axis=1), np.zeros((HEIGHT, BREADTH), np.uint8)
        for number in range(1, objects + 1):
            top, left = 4 + 20 * (number - 1), (10 * number + 3 * time) % (BREADTH - 16)
            image[top : top + 14, left : left + 16] = 80 * number + 60
            label[top : top + 14, left : left + 16] = number
        images.append(image)
        labels.append(label)
    return images, labels


def write_davis(root: Path, names: tuple[str, ...] = ("one", "two"), frames: int = 6) -> Path:
    """Write painted clips in DAVIS's layout; masks are numbers of objects."""
    for place, name in enumerate(names):
        images, labels = painted_clip(frames, objects=1 + place)
        for folder in ("JPEGImages", "Annotations"):
            (root / folder / "480p" / name).mkdir(parents=True)
        for time, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(root / f"JPEGImages/480p/{name}/{time:05d}.png")
            Image.fromarray(label).save(root / f"Annotations/480p/{name}/{time:05d}.png")
    return root
