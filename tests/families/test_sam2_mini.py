"""The bundled small SAM 2: its size and structure, that prompts find objects, and frames too."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import carsam
from carsam.families import load_model
from carsam.families.registry import empty_model
from carsam.families.sam2_mini import sam2_mini_config
from carsam.formats.bundled import FOLDER
from carsam.images.moving_camera import moving_camera
from carsam.images.scenes import scene

SEEDS = (500_001, 500_002, 500_003)  # no scene of the training has such a seed
LEAST = 1500  # pixels of an object
FRAMES = 6


def test_weights_fit_in_twelve_megabytes():
    assert (FOLDER / "sam2-mini" / "model.safetensors").stat().st_size <= 12_000_000


def test_packaged_model_is_the_one_trained():
    family, model = load_model("sam2-mini")
    assert family.name == "sam2_video"
    trained = empty_model(sam2_mini_config())
    shapes = [
        {name: tensor.shape for name, tensor in each.state_dict().items()}
        for each in (model, trained)
    ]
    assert shapes[0] == shapes[1]
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


def test_objects_are_followed_through_a_moving_camera():
    predictor = carsam.SAM2VideoPredictor("sam2-mini")
    followed, stayed = [], []
    for seed in SEEDS[:2]:
        drawn = scene(seed)
        masks = drawn.masks[drawn.masks.sum((1, 2)) > LEAST][:2]
        clip = moved(drawn.image, seed)
        state = predictor.init_state(list(clip))
        for number, mask in enumerate(masks):
            predictor.add_new_mask(state, 0, number, mask)
        *_, (_, _, logits) = predictor.propagate_in_video(state)
        for mask, found in zip(masks, logits[:, 0] > 0, strict=True):
            pixels = np.repeat(255 * mask[..., None].astype(np.uint8), 3, -1)
            truth = moved(pixels, seed)[-1, ..., 0] > 127
            followed.append(iou(found, truth))
            stayed.append(iou(mask, truth))
    assert np.mean(followed) > np.mean(stayed) + 0.2


def moved(picture, seed):
    return moving_camera(picture, FRAMES, np.random.default_rng(seed))
