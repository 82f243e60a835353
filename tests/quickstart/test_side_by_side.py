"""One picture of what several engines make of the same boxes."""

import json

import numpy as np
import pytest

from carsam.engines.base import Embedding
from carsam.errors import UserError
from carsam.images.prompts import Prompts
from carsam.images.scenes import write_scenes
from carsam.quickstart.side_by_side import side_by_side


class EmptyMasks:
    """An engine that finds nothing."""

    mode = "float"
    image_size = 64

    def encode(self, pixels: np.ndarray) -> Embedding:
        return (np.zeros((1, 4, 4), np.float32),)

    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(prompts), 1, 16, 16), -1, np.float32), np.zeros((len(prompts), 1))


@pytest.fixture
def coco(tmp_path):
    return write_scenes(tmp_path, 3, seed=0, size=64)


def test_a_row_has_the_photo_and_a_mask_of_every_engine(coco) -> None:
    engines = {"float": EmptyMasks(), "w4a4": EmptyMasks()}
    two_rows = side_by_side(engines, coco, coco.parent / "images", rows=2)
    assert two_rows.width > 3 * 320
    assert 2 * 320 < two_rows.height < 3 * 320


def test_images_that_cannot_be_read_are_passed_over(coco) -> None:
    first = min((coco.parent / "images").iterdir())
    first.write_text("no image")
    picture = side_by_side({"float": EmptyMasks()}, coco, coco.parent / "images", rows=3)
    assert 2 * 320 < picture.height < 3 * 320


def test_a_json_without_objects_is_refused(coco) -> None:
    document = json.loads(coco.read_text())
    coco.write_text(json.dumps({**document, "annotations": []}))
    with pytest.raises(UserError, match="no object"):
        side_by_side({"float": EmptyMasks()}, coco, coco.parent / "images")
