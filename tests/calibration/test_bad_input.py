"""What calibration does with too little, or with nonsense."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from carsam.calibration.prompts import found_boxes
from carsam.calibration.quantize import quantize
from carsam.errors import UserError
from carsam.evaluation.strict import assert_strict
from carsam.images.preprocess import Framing

FAST = ["reconstruct.steps=2"]


class SeesNothing:
    """An engine whose masks are all empty."""

    mode, framing = "float", Framing(64)

    def encode(self, pixels):
        return (np.zeros((4, 8, 8), np.float32),)

    def decode(self, embedding, prompts, multimask_output):
        return np.full((len(prompts), 3, 32, 32), -1, np.float32), np.ones((len(prompts), 3))


@pytest.mark.filterwarnings("ignore:.*reconstruction raised the loss")
def test_one_image_of_a_single_colour_is_enough(tiny_sam, photo, tmp_path):
    Image.new("RGB", (60, 40), (90, 120, 200)).save(tmp_path / "plain.png")
    model = quantize(tiny_sam, tmp_path, "carsam", count=1, settings=FAST)
    assert model.provenance["calibration"]["images"] == ["plain.png"]
    assert_strict(model, [photo])


@pytest.mark.filterwarnings("ignore:Polish raised")
def test_one_image_is_enough_for_the_mirror_images_too(tiny_sam, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "only.png")
    model = quantize(tiny_sam, tmp_path, "carsam-plus", count=1, settings=["polish.steps=2"])
    assert_strict(model, [photo])


def test_annotations_without_an_object_are_refused(tiny_sam, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "0.png")
    image = {"id": 1, "file_name": "0.png", "height": 90, "width": 120}
    nothing = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "empty.json").write_text(json.dumps(nothing))
    said = "holds no object with a usable box; calibration needs prompts"
    with pytest.raises(UserError, match=said):
        quantize(tiny_sam, tmp_path, "rtn", count=1, coco=tmp_path / "empty.json")


def test_photos_of_one_size_and_of_several_calibrate(tiny_sam, photo, tmp_path):
    for index, picture in enumerate((photo, photo[:, ::-1], photo[:40], photo[:, :1])):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    model = quantize(tiny_sam, tmp_path, "rtn", count=4)
    assert_strict(model, [photo])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompts_per_image": 0}, "prompts_per_image is 0; expected at least 1"),
        ({"sharers": 0}, "sharers is 0; expected at least 1"),
        ({"memory": -1.0}, r"memory is -1\.0; expected gigabytes, 0 or more"),
        ({"memory": float("nan")}, "memory is nan; expected gigabytes"),
        ({"count": 0}, "Asked for 0 images; ask for at least 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tiny_sam, image_folder, wrong, said):
    with pytest.raises(UserError, match=said):
        quantize(tiny_sam, image_folder, "rtn", **wrong)


def test_an_image_without_objects_gets_boxes_of_every_size(photo):
    boxes = found_boxes(SeesNothing(), photo, limit=8, seed=3)
    assert boxes.shape == (8, 4)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all() and (boxes[:, 2] <= 64).all() and (boxes[:, 3] <= 48).all()
    np.testing.assert_array_equal(boxes, found_boxes(SeesNothing(), photo, limit=8, seed=3))


def test_a_unit_that_computes_infinity_is_named_without_observers(tiny_sam, image_folder):
    tiny_sam.vision_encoder.layers[1].mlp.register_forward_hook(lambda *given: given[2] / 0)
    with pytest.raises(ValueError, match=r"layers\.1\.mlp: its output hidden holds NaN"):
        quantize(tiny_sam, image_folder, "rtn", bits="w4a32", count=1)


class SameDevice(TorchFunctionMode):
    """Refuses random draws that would mix a CUDA generator with the default device."""

    def __init__(self):
        super().__init__()
        self.draws = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None:
            self.draws += 1
            assert "device" in kwargs, f"{func.__name__} with a generator, but without its device"
        return func(*args, **kwargs)


@pytest.mark.filterwarnings("ignore:.*reconstruction raised the loss")
@pytest.mark.parametrize("recipe", ["qdrop", "ptq4sam"])
def test_random_draws_are_made_on_the_generators_device(tiny_sam, image_folder, recipe):
    with SameDevice() as mode:
        quantize(tiny_sam, image_folder, recipe, count=1, settings=FAST)
    assert mode.draws > 0


@pytest.mark.filterwarnings("ignore:.*reconstruction raised the loss")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", ["rtn", "carsam", "ahcqsam", "gptaq", "erq", "ptq4vit"])
def test_recipes_run_on_cuda(tiny_sam, image_folder, photo, recipe):
    trains = recipe in ("carsam", "ahcqsam")
    model = quantize(
        tiny_sam, image_folder, recipe, count=2, settings=FAST if trains else [], device="cuda"
    )
    assert next(model.module.parameters()).is_cuda
    assert_strict(model, [photo])


def test_a_step_that_has_nothing_to_do_is_named(tiny_sam, image_folder):
    said = "Step twin-uniform of recipe ptq4vit has nothing to do: bits w4a32 and the rules leave"
    with pytest.warns(UserWarning, match=said):
        quantize(tiny_sam, image_folder, "ptq4vit", "w4a32", count=1)
