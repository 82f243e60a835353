"""Procedural scenes: textured, shaded, overlapping shapes with exact masks."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SMALLEST_AREA = 48


@dataclass(frozen=True)
class Scene:
    """An image and the visible part of every object in it.

    Attributes:
        image: uint8, height x width x 3, RGB.
        masks: bool, objects x height x width; no pixel belongs to two objects.
    """

    image: np.ndarray
    masks: np.ndarray


def scene(seed: int, size: int = 512) -> Scene:
    """Draw a square scene; the same seed and size give the same pixels.

    Args:
        seed: any non-negative integer.
        size: height and width in pixels.
    """
    random = np.random.default_rng([seed, size])
    canvas = _texture(random, size, size)  # H x W x 3, float in [0, 255]
    owner = np.zeros((size, size), np.int32)
    number_of_objects = int(random.integers(6, 30))
    for number in range(1, number_of_objects + 1):
        _draw_object(random, canvas, owner, number)
    masks = [owner == number for number in range(1, number_of_objects + 1)]
    masks = [mask for mask in masks if mask.sum() >= SMALLEST_AREA]
    image = _photograph(random, canvas)
    return Scene(image, np.array(masks, bool).reshape(-1, size, size))


def write_scenes(folder: Path | str, count: int, seed: int = 0, size: int = 512) -> Path:
    """Write scenes as PNG images with COCO annotations, to calibrate and to evaluate on.

    Args:
        folder: where `images/` and `instances.json` are written; created if missing.
        count: number of scenes; scene i has seed `seed + i`.
        seed: seed of the first scene.
        size: height and width in pixels.

    Returns:
        The path of `instances.json`; its `info.image_folder` names the folder of the images.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(count):
        drawn = scene(seed + index, size)
        name = f"scene_{seed + index:06d}.png"
        Image.fromarray(drawn.image).save(folder / "images" / name)
        images.append({"id": index + 1, "file_name": name, "width": size, "height": size})
        for mask in drawn.masks:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": index + 1, **_annotation(mask)}
            )
    document = {
        "info": {"description": "procedural scenes", "image_folder": "images"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "shape"}],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(document))
    return path


def _annotation(mask: np.ndarray) -> dict:
    """The COCO fields of one mask, H x W, with an uncompressed run-length code."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    flat = np.concatenate(
        [[False], mask.T.reshape(-1), [False]]
    )  # COCO counts run down the columns
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes]))
    if changes[-1] < mask.size:
        counts = np.append(counts, mask.size - changes[-1])
    return {
        "category_id": 1,
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(mask.shape), "counts": counts.tolist()},
    }


def _draw_object(
    random: np.random.Generator, canvas: np.ndarray, owner: np.ndarray, number: int
) -> None:
    """Paint object `number` over the canvas, H x W x 3, and mark its pixels in `owner`, H x W."""
    size = len(canvas)
    extent = (
        size * 0.30 * np.exp(random.uniform(-3.0, 0.0))
    )  # half length in pixels: small objects are common
    center = random.uniform(0, size, 2)
    reach = int(extent * 1.5) + 4
    top, left = np.maximum(center.astype(int) - reach, 0)
    bottom, right = np.minimum(center.astype(int) + reach, size)
    rows, columns = np.mgrid[top:bottom, left:right] - center[:, None, None]
    coverage = _coverage(random, rows, columns, extent)  # h x w in [0, 1]
    if coverage.size == 0 or coverage.max() < 0.5:
        return
    height, width = coverage.shape
    area = canvas[top:bottom, left:right]
    if random.random() < 0.4:
        _cast_shadow(random, area, coverage)
    paint = _texture(random, height, width)
    if random.random() < 0.3:  # objects of two materials
        angle, shift = random.uniform(0, 2 * np.pi), random.uniform(-0.4, 0.4) * extent
        second = rows * np.sin(angle) + columns * np.cos(angle) > shift
        paint[second] = _texture(random, height, width)[second]
    light = random.uniform(0, 2 * np.pi)
    slope = (rows * np.sin(light) + columns * np.cos(light)) / extent
    paint *= 1 + random.uniform(0, 0.5) * slope[..., None]
    area += coverage[..., None] * (paint - area)
    owner[top:bottom, left:right][coverage >= 0.5] = number


def _coverage(
    random: np.random.Generator, rows: np.ndarray, columns: np.ndarray, extent: float
) -> np.ndarray:
    """How much of each pixel a random shape covers.

    Args:
        random: source of the shape.
        rows, columns: offsets of the pixels from the centre, h x w.
        extent: half length of the shape in pixels.
    """
    angle = random.uniform(0, np.pi)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    across = (rows * np.cos(angle) - columns * np.sin(angle)) / random.uniform(0.3, 1.0)
    distance, theta = np.hypot(along, across), np.arctan2(across, along)
    radius = _RADII[random.integers(len(_RADII))](random, theta)  # relative to the extent
    coverage = np.clip(radius * extent - distance + 0.5, 0, 1)
    if random.random() < 0.12:  # a hole makes a ring
        coverage *= np.clip(distance - radius * extent * random.uniform(0.3, 0.65) + 0.5, 0, 1)
    return coverage


def _ellipse(random: np.random.Generator, theta: np.ndarray) -> np.ndarray:
    return np.ones_like(theta)


def _polygon(random: np.random.Generator, theta: np.ndarray) -> np.ndarray:
    sector = 2 * np.pi / random.integers(3, 8)
    return np.cos(sector / 2) / np.cos((theta + np.pi) % sector - sector / 2)


def _rounded_rectangle(random: np.random.Generator, theta: np.ndarray) -> np.ndarray:
    power = random.uniform(3, 12)
    return (np.abs(np.cos(theta)) ** power + np.abs(np.sin(theta)) ** power) ** (-1 / power) / 1.2


def _star(random: np.random.Generator, theta: np.ndarray) -> np.ndarray:
    return 0.75 + random.uniform(0.15, 0.25) * np.cos(random.integers(3, 8) * theta)


def _blob(random: np.random.Generator, theta: np.ndarray) -> np.ndarray:
    harmonics = sum(
        random.normal(0, 0.25 / order) * np.cos(order * theta + random.uniform(0, 2 * np.pi))
        for order in range(2, 8)
    )
    return np.clip(0.8 + harmonics, 0.2, 1.4)


_RADII = (_ellipse, _polygon, _rounded_rectangle, _star, _blob, _blob)


def _cast_shadow(random: np.random.Generator, area: np.ndarray, coverage: np.ndarray) -> None:
    """Darken the area, h x w x 3, under a blurred and displaced copy of the coverage, h x w."""
    shadow = Image.fromarray((coverage * 255).astype(np.uint8))
    small = (max(1, shadow.width // 8), max(1, shadow.height // 8))
    shadow = shadow.resize(small, Image.Resampling.BILINEAR).resize(
        shadow.size, Image.Resampling.BICUBIC
    )
    shift_x, shift_y = random.uniform(-0.08, 0.08, 2) * shadow.size
    shadow = shadow.transform(
        shadow.size,
        Image.Transform.AFFINE,
        (1, 0, shift_x, 0, 1, shift_y),
        Image.Resampling.BILINEAR,
    )
    area *= 1 - random.uniform(0.2, 0.6) / 255 * np.asarray(shadow, np.float32)[..., None]


def _texture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random material, height x width x 3 in [0, 255]: colours, noise, perhaps a pattern."""
    dark, bright = _colour(random), _colour(random)
    contrast = random.uniform(0.05, 0.6)
    mixture = 0.5 + contrast * (_noise(random, height, width) - 0.5)
    kind = random.random()
    if kind < 0.35:  # stripes or checks
        rows, columns = np.mgrid[:height, :width]
        angle, period = random.uniform(0, np.pi), random.uniform(4, 40)
        wave = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * 2 * np.pi / period)
        if kind < 0.15:
            wave = wave * np.sin(
                (rows * np.cos(angle) - columns * np.sin(angle)) * 2 * np.pi / period
            )
        mixture = mixture + random.uniform(0.1, 0.5) * np.tanh(random.uniform(1, 8) * wave)
    if random.random() < 0.5:  # a gradient
        top, bottom = random.uniform(-0.3, 0.3, 2)
        mixture = mixture + np.linspace(top, bottom, height)[:, None]
    texture = dark + (bright - dark) * mixture[..., None]
    colour_noise = np.stack([_noise(random, height, width) for _ in range(3)], -1) - 0.5
    return np.clip(texture + random.uniform(0, 80) * colour_noise, 0, 255)


def _colour(random: np.random.Generator) -> np.ndarray:
    """An RGB colour in [0, 255]; dull ones are more common than vivid ones."""
    colour = random.uniform(0, 255, 3)
    return colour.mean() + random.uniform(0, 1) ** 1.5 * (colour - colour.mean())


def _noise(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth noise in [0, 1], height x width: random grids of two spacings, enlarged and mixed."""
    total = np.zeros((height, width), np.float32)
    for spacing in (random.uniform(2, 12), random.uniform(16, 64)):
        grid = random.random((int(height / spacing) + 2, int(width / spacing) + 2), np.float32)
        total += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
    return total / 2


def _photograph(random: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """What a camera makes of the canvas, H x W x 3: exposure and sensor noise, rounded to uint8."""
    exposed = canvas * random.uniform(0.7, 1.2) + random.normal(
        0, random.uniform(0.5, 8), canvas.shape
    )
    return np.clip(exposed, 0, 255).astype(np.uint8)
