"""What a moving camera would make of one picture: a clip of which every frame is known."""

import math

import numpy as np
from PIL import Image

SHIFT, STRETCH, TURN = 0.04, 0.03, 3.0
"""Most that a frame moves, of the picture's sides; grows; and turns, in degrees."""


def moving_camera(picture: np.ndarray, frames: int, random: np.random.Generator) -> np.ndarray:
    """Return frames (frames, H, W, 3) of a camera that moves evenly, the first one the picture.

    What lies beyond the picture (H, W, 3) uint8 is its mirror image.
    """
    height, width, _ = picture.shape
    speed = random.uniform(-1, 1, 4) * (SHIFT * width, SHIFT * height, STRETCH, math.radians(TURN))
    margin = (height // 2, width // 2)
    wide = np.pad(picture, (*((side, side) for side in margin), (0, 0)), mode="symmetric")
    source = Image.fromarray(wide)
    middle = np.array([width, height]) / 2
    made = [picture]
    for frame in range(1, frames):
        shift, (growth, angle) = frame * speed[:2], frame * speed[2:]
        sine, cosine = math.sin(angle), math.cos(angle)
        turn = math.exp(growth) * np.array([[cosine, -sine], [sine, cosine]])
        # A pixel p of the frame is seen at turn (p - middle) + middle + shift of the picture.
        start = middle + shift - turn @ middle + np.array(margin[::-1])
        affine = (*turn[0], start[0], *turn[1], start[1])
        moved = source.transform(
            (width, height), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
        )
        made.append(np.asarray(moved))
    return np.stack(made)
