"""The bundled small SAM 2: its size and structure, and that boxes and clicks find objects."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import carsam
from carsam.families import load_model
from carsam.families.registry import empty_model
from carsam.families.sam2_mini import sam2_mini_config
from carsam.formats.bundled import FOLDER
from carsam.images.scenes import scene

SEEDS = (500_001, 500_002, 500_003)  # no scene of the training has such a seed
LEAST = 1500  # pixels of an object


def test_weights_fit_in_twelve_megabytes():
    assert (FOLDER / "sam2-mini" / "model.safetensors").stat().st_size <= 12_000_000


def test_packaged_model_is_the_one_trained():
    family, model = load_model("sam2-mini")
    assert family.name == "sam2"
    trained = empty_model(sam2_mini_config())
    shapes = {name: tensor.shape for name, tensor in trained.state_dict().items()}
    assert all(shapes[name] == tensor.shape for name, tensor in model.state_dict().items())
    packaged, expected = (each.config.vision_config.backbone_config for each in (model, trained))
    for name in ("image_size", "window_size_per_stage", "global_attention_blocks"):
        assert getattr(packaged, name) == getattr(expected, name)


@pytest.fixture(scope="module")
def found():
    """Mean IoU of boxes, of the best masks of clicks, and of boxes that are filled."""
    predictor = carsam.SamPredictor(carsam.load("sam2-mini"))
    boxes, clicks, filled = [], [], []
    for drawn in map(scene, SEEDS):
        predictor.set_image(drawn.image)
        for mask in drawn.masks[drawn.masks.sum((1, 2)) > LEAST]:
            rows, columns = np.nonzero(mask)
            left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            box = np.array([left, top, right, bottom])
            masks, _, _ = predictor.predict(box=box, multimask_output=False)
            boxes.append(iou(masks[0], mask))
            middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
            click = np.array([[columns[middle], rows[middle]]])
            masks, _, _ = predictor.predict(click, np.array([1]))
            clicks.append(max(iou(each, mask) for each in masks))
            filled.append(mask.sum() / ((right - left) * (bottom - top)))
    return np.mean(boxes), np.mean(clicks), np.mean(filled)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_boxes_find_their_objects(found):
    boxes, _, filled = found
    assert boxes > filled + 0.05


def test_clicks_find_their_objects(found):
    _, clicks, _ = found
    assert clicks > 0.5
