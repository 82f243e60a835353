"""Other views of an image and its prompts, for steps that train on masks."""

from collections.abc import Iterator

import numpy as np

from carsam.images.clicks import are_clicks, new_clicks
from carsam.images.moved_boxes import moved_boxes

SIDES = 0.5, 0.8
"""Smallest and largest side of a part, relative to the image's."""

LEAST_SEEN = 0.5
"""Share of a box that a part must show, so that the box stays among the prompts."""

View = tuple[np.ndarray, np.ndarray]
"""An image (H, W, 3) uint8, and prompts (P, 4) in its pixels: boxes and clicks."""


def views_of(image: np.ndarray, rows: np.ndarray, seed: tuple[int, ...]) -> Iterator[View]:
    """Yield three other views: the mirror image, a part, and another part mirrored.

    Each has as many boxes and as many clicks as there are in `rows`. In a part everything is
    larger; of its prompts, some are those that it shows, the others new.
    """
    random = np.random.default_rng(seed)
    yield _mirrored(image, rows)
    yield _part(image, rows, random)
    yield _mirrored(*_part(image, rows, random))


def _mirrored(image: np.ndarray, rows: np.ndarray) -> View:
    rows = rows.copy()
    rows[:, [0, 2]] = image.shape[1] - rows[:, [2, 0]]
    return np.ascontiguousarray(image[:, ::-1]), rows


def _part(image: np.ndarray, rows: np.ndarray, random: np.random.Generator) -> View:
    whole = np.array(image.shape[1::-1])  # width, height
    size = np.maximum(np.rint(whole * random.uniform(*SIDES)), 1).astype(int)
    start = np.floor(random.uniform(size=2) * (whole - size + 1)).astype(int)
    bounds = np.concatenate([[0, 0], size])
    moved = rows - np.tile(start, 2)
    shown = moved.clip(np.tile(bounds[:2], 2), np.tile(bounds[2:], 2)).astype(np.float32)
    clicked = are_clicks(rows)
    inside = (shown == moved).all(1)
    seen = _areas(shown) >= LEAST_SEEN * _areas(rows)
    boxes, clicks = shown[~clicked & seen], shown[clicked & inside]
    around = boxes if len(boxes) else bounds[None].astype(np.float32)
    missing = int((~clicked).sum()) - len(boxes), int(clicked.sum()) - len(clicks)
    made = (
        moved_boxes(around, missing[0], bounds, random),
        new_clicks(around, missing[1], bounds, random),
    )
    (left, top), (right, bottom) = start, start + size
    picture = np.ascontiguousarray(image[top:bottom, left:right])
    return picture, np.concatenate([boxes, clicks, *made])


def _areas(rows: np.ndarray) -> np.ndarray:
    return np.asarray((rows[:, 2:] - rows[:, :2]).prod(1))
