"""Small COCO data sets of painted shapes, and an engine that knows the answers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carsam.engines.base import Embedding
from carsam.evaluation import masks
from carsam.images.preprocess import Framing
from carsam.images.prompts import Prompts

HEIGHT, WIDTH = 64, 80


def coco_document(seed: int = 0, images: int = 2, crowds: bool = False) -> dict:
    """Rectangles and discs of 3 categories; every second one a polygon, the others encoded."""
    generator = np.random.default_rng(seed)
    document: dict = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": identity, "name": f"{identity}"} for identity in (3, 5, 9)]
    for image in range(images):
        document["images"].append(
            {"id": 10 + image, "file_name": f"{image}.png", "height": HEIGHT, "width": WIDTH}
        )
        for index in range(6):
            x0, y0 = generator.integers(0, WIDTH - 45), generator.integers(0, HEIGHT - 45)
            width, height = generator.integers(8, 44, size=2)
            document["annotations"].append(
                _annotation(
                    identity=100 * image + index + 1,
                    image=10 + image,
                    category=int(generator.choice([3, 5, 9])),
                    box=[int(x0), int(y0), int(width), int(height)],
                    polygon=index % 2 == 0,
                    crowd=crowds and index == 5,
                )
            )
    return document


def _annotation(
    identity: int, image: int, category: int, box: list[int], polygon: bool, crowd: bool
) -> dict:
    x, y, width, height = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + height, x : x + width] = True
    encoded = masks.encode(mask)
    encoded = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {
        "id": identity,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": width * height,
        "iscrowd": int(crowd),
        "segmentation": [corners] if polygon and not crowd else encoded,
    }


@pytest.fixture
def coco_json(tmp_path) -> Callable[..., Path]:
    """Function that writes `coco_document` and its images, and returns the json's path.

    `change` edits the document before it is written.
    """

    def write(change: Callable[[dict], object] | None = None, **options) -> Path:
        document = coco_document(**options)
        for image in document["images"]:
            Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / image["file_name"])
        if change is not None:
            change(document)
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(document))
        return path

    return write


class BoxEngine:
    """An engine that fills the box it is given, or a square around the click.

    Its frame has the images' longest side, so that masks come back at their own resolution.
    """

    framing = Framing(WIDTH)

    def __init__(self, mode: str = "float", shrink: int = 0) -> None:
        self.mode, self.shrink = mode, shrink

    def encode(self, pixels: np.ndarray) -> Embedding:
        return (np.zeros((1, self.framing.side // 4, self.framing.side // 4), np.float32),)

    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        boxes = prompts.boxes
        if boxes is None:
            points = prompts.points[:, 0]
            boxes = np.concatenate([points - 8, points + 8], axis=1)
        shrinks = np.arange(3) if multimask_output else np.zeros(1, int)
        logits = [[self._paint(box, self.shrink + more) for more in shrinks] for box in boxes]
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / self.framing.side**2
        ious = areas[:, None] / (1 + shrinks)
        return np.array(logits, np.float32), ious.astype(np.float32)

    def _paint(self, box: np.ndarray, shrink: int) -> np.ndarray:
        centres = np.arange(self.framing.side) + 0.5
        x0, y0, x1, y1 = box + shrink * np.array([1, 1, -1, -1])
        inside = ((y0 < centres) & (centres < y1))[:, None] & ((x0 < centres) & (centres < x1))
        return np.where(inside, 10.0, -10.0)


@pytest.fixture
def box_engine() -> Callable[..., BoxEngine]:
    """The class of an engine that fills boxes."""
    return BoxEngine
