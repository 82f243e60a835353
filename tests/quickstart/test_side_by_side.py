"""One picture of what several engines make of the same boxes."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from carsam.engines.base import Embedding
from carsam.errors import UserError
from carsam.images.preprocess import Framing
from carsam.images.prompts import Prompts
from carsam.images.scenes import write_scenes
from carsam.quickstart import photos
from carsam.quickstart.photos import installed_photos
from carsam.quickstart.side_by_side import (
    COLOURS,
    PANEL_SIZE,
    Example,
    coco_examples,
    photo_examples,
    side_by_side,
)


class FullMasks:
    """An engine to which everything belongs to the object."""

    mode = "float"
    framing = Framing(64)

    def encode(self, pixels: np.ndarray) -> Embedding:
        return (np.zeros((1, 4, 4), np.float32),)

    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(prompts), 1, 16, 16), 1, np.float32), np.zeros((len(prompts), 1))


@pytest.fixture
def coco(tmp_path):
    return write_scenes(tmp_path, 3, seed=0, size=64)


def test_a_row_has_the_photo_and_a_panel_for_every_engine(coco) -> None:
    engines = {"float": FullMasks(), "w4a4": FullMasks()}
    picture = side_by_side(engines, coco_examples(coco, coco.parent / "images", images=2))
    assert 3 * PANEL_SIZE < picture.width < 4 * PANEL_SIZE
    assert 2 * PANEL_SIZE < picture.height < 3 * PANEL_SIZE


def test_every_object_of_a_photo_has_a_colour_of_its_own() -> None:
    boxes = np.array([[2.0, 2, 12, 12], [20, 20, 30, 30], [40, 5, 60, 60]])
    example = Example(np.full((64, 64, 3), 128, np.uint8), boxes)
    drawn = np.asarray(side_by_side({"float": FullMasks()}, [example]))
    boxes_drawn = drawn[:, : drawn.shape[1] // 2].reshape(-1, 3).tolist()
    assert all(list(colour) in boxes_drawn for colour in COLOURS[: len(boxes)])


def test_without_true_masks_the_first_engine_is_the_measure(monkeypatch) -> None:
    captions: list[str] = []
    monkeypatch.setattr(
        "carsam.quickstart.side_by_side.panel_rows",
        lambda rows, size: captions.extend(panel.caption for row in rows for panel in row),
    )
    example = Example(np.zeros((64, 64, 3), np.uint8), np.array([[2.0, 2, 12, 12]]))
    side_by_side({"float": FullMasks(), "w4a4": FullMasks()}, [example])
    assert captions == ["photo and boxes", "float", "w4a4: IoU 1.00 with float"]


def test_images_that_cannot_be_read_are_passed_over(coco) -> None:
    first = min((coco.parent / "images").iterdir())
    first.write_text("no image")
    assert len(coco_examples(coco, coco.parent / "images", images=3)) == 2


def test_images_under_other_folders_are_found(coco) -> None:
    document = json.loads(coco.read_text())
    for image in document["images"]:
        image["file_name"] = f"elsewhere\\{image['file_name']}"
    coco.write_text(json.dumps(document))
    assert len(coco_examples(coco, coco.parent / "images", images=3)) == 3


def test_a_json_without_objects_is_refused(coco) -> None:
    document = json.loads(coco.read_text())
    coco.write_text(json.dumps({**document, "annotations": []}))
    with pytest.raises(UserError, match="no object"):
        coco_examples(coco, coco.parent / "images")


def test_the_photos_have_boxes_inside_them() -> None:
    pytest.importorskip("skimage")
    found = installed_photos()
    assert len(found) == len(json.loads(photos.BOXES.read_text()))
    for example in photo_examples(found):
        height, width, _ = example.image.shape
        assert (example.boxes >= 0).all()
        assert (example.boxes[:, :2] < example.boxes[:, 2:]).all()
        assert (example.boxes[:, 2:] <= (width, height)).all()


def test_a_photo_that_the_package_no_longer_has_is_left_out(tmp_path, monkeypatch) -> None:
    (tmp_path / "skimage" / "data").mkdir(parents=True)
    (tmp_path / "skimage" / "__init__.py").touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "skimage" / "data" / "coffee.png")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "skimage", raising=False)
    assert [photo.path.name for photo in installed_photos()] == ["coffee.png"]


def test_without_the_extra_there_are_no_photos(monkeypatch) -> None:
    monkeypatch.setattr(photos, "find_spec", lambda name: None)
    assert installed_photos() == []


def test_every_photo_is_credited() -> None:
    listed = json.loads(photos.BOXES.read_text())
    assert all("CC0" in photo["credit"] or "public domain" in photo["credit"] for photo in listed)


def test_a_box_outside_its_image_is_not_shown(coco) -> None:
    document = json.loads(coco.read_text())
    (first, *_) = document["annotations"]
    outside = {**first, "id": 10_000, "bbox": [100, 100, 20, 20]}
    coco.write_text(json.dumps({**document, "annotations": [outside, first]}))
    (example,) = coco_examples(coco, coco.parent / "images", images=1)
    assert (example.boxes < 100).all()
