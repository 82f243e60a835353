"""Windows without content, to learn what a box means: its mask is its inscribed ellipse."""

import numpy as np
from windows import Window

SMALLEST, THINNEST = 7.0, 0.4  # pixels of a box's geometric mean; share of it


def shapes_window(random: np.random.Generator, size: int, count: int) -> Window:
    """A plain image, size x size, and `count` ellipses of all sizes and places."""
    image = np.clip(random.uniform(40, 215, 3) + random.normal(0, 8, (size, size, 3)), 0, 255)
    return Window(image.astype(np.uint8), np.stack([_ellipse(random, size) for _ in range(count)]))


def _ellipse(random: np.random.Generator, size: int) -> np.ndarray:
    """Covered shares, uint8 size x size; at least its middle lies inside the window."""
    mean = np.exp(random.uniform(np.log(SMALLEST), np.log(0.9 * size)))
    ratio = np.exp(random.uniform(np.log(THINNEST), -np.log(THINNEST)))
    radius = 0.5 * mean * np.array([ratio**0.5, ratio**-0.5])  # along x and y
    middle = random.uniform(0, size, 2)
    pixels = np.arange(size) + 0.5
    across, down = ((pixels - middle[axis]) / radius[axis] for axis in (0, 1))
    distance = np.sqrt(across[None] ** 2 + down[:, None] ** 2)
    edge = 0.5 + (1 - distance) * radius.min()  # about the covered share of pixels on the outline
    return (255 * np.clip(edge, 0, 1)).astype(np.uint8)
