"""SAM2ImagePredictor's names, shapes and refusals; what it predicts is tested against Meta's."""

import inspect

import numpy as np
import pytest
from PIL import Image
from without_torch import run_without_torch

import carsam
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.families import FAMILIES

BOX = np.array([20, 15, 100, 80])

WITHOUT_TORCH = """
import sys
import numpy as np
import carsam
from carsam.cli import main

run, photo, folder = sys.argv[1:]
predictor = carsam.SAM2ImagePredictor(run)
assert predictor.model.mode == "native"
predictor.set_image(photo)
masks, ious, low_res = predictor.predict(box=[20, 15, 100, 80], multimask_output=False)
np.savez(folder + "/found.npz", masks=masks, ious=ious, low_res=low_res)
command = ["predict", run, photo, "--box", "20,15,100,80", "--out", folder + "/mask.png"]
sys.exit(main(command))
"""


@pytest.fixture
def engine(tiny_sam2):
    return TorchEngine(FAMILIES["sam2"], tiny_sam2, "float")


@pytest.fixture
def predictor(engine, photo):
    predictor = carsam.SAM2ImagePredictor(engine)
    predictor.set_image(photo)
    return predictor


@pytest.fixture
def ours(engine, photo):
    predictor = carsam.SamPredictor(engine)
    predictor.set_image(photo)
    return predictor


def test_arguments_have_metas_names_and_order():
    def arguments(method):
        return list(inspect.signature(method).parameters)[1:]

    kind = carsam.SAM2ImagePredictor
    assert arguments(kind.__init__)[:4] == [
        "sam_model", "mask_threshold", "max_hole_area", "max_sprinkle_area",
    ]  # fmt: skip
    one = ["point_coords", "point_labels", "box", "mask_input"]
    rest = ["multimask_output", "return_logits", "normalize_coords"]
    assert arguments(kind.predict) == one + rest
    assert arguments(kind.predict_batch) == [f"{name}_batch" for name in one] + rest


def test_masks_are_those_of_the_other_predictor_as_numbers(predictor, ours):
    masks, ious, low_res = predictor.predict([[60, 45]], [1], BOX)
    expected = ours.predict([[60, 45]], [1], BOX)
    assert masks.dtype == np.float32 and masks.shape == (3, 90, 120)
    np.testing.assert_array_equal(masks, expected[0].astype(np.float32))
    np.testing.assert_array_equal(ious, expected[1])
    np.testing.assert_array_equal(low_res, expected[2])


def test_several_boxes_give_a_leading_dimension(predictor, ours):
    boxes = np.stack([BOX, BOX // 2])
    masks, ious, low_res = predictor.predict(box=boxes, multimask_output=False)
    assert (masks.shape, ious.shape) == ((2, 1, 90, 120), (2, 1))
    np.testing.assert_array_equal(low_res, ours.predict_batch(boxes)[2])


def test_coordinates_may_run_from_0_to_1(predictor):
    pixels = predictor.predict(np.array([[60, 45]]), [1], BOX)
    shares = predictor.predict(
        np.array([[0.5, 0.5]]), [1], BOX / [120, 90, 120, 90], normalize_coords=False
    )
    np.testing.assert_allclose(shares[2], pixels[2], atol=1e-5)


def test_a_threshold_and_the_limit_of_logits_hold(engine, tiny_sam2, photo):
    tiny_sam2.mask_decoder.output_hypernetworks_mlps[0].proj_out.weight.data.mul_(1000)
    predictor = carsam.SAM2ImagePredictor(engine, mask_threshold=40.0)
    predictor.set_image(photo)
    masks, _, low_res = predictor.predict(box=BOX, multimask_output=False)
    logits, _, _ = predictor.predict(box=BOX, multimask_output=False, return_logits=True)
    np.testing.assert_array_equal(masks, (logits > 40).astype(np.float32))
    assert 0 < masks.sum() < (logits > 0).sum()
    assert np.abs(low_res).max() == 32


def test_a_batch_of_images_is_predicted_one_by_one(predictor, photo):
    alone = predictor.predict(box=BOX)
    predictor.set_image_batch([photo[::-1], photo])
    masks, ious, low_res = predictor.predict_batch(box_batch=[BOX, BOX])
    assert len(masks) == len(ious) == 2
    np.testing.assert_array_equal(low_res[1], alone[2])
    with pytest.raises(UserError, match=r"for 1 images; expected 2"):
        predictor.predict_batch(box_batch=[BOX])
    with pytest.raises(UserError, match="No image is set"):
        predictor.predict(box=BOX)
    predictor.reset_predictor()
    with pytest.raises(UserError, match="No batch of images"):
        predictor.predict_batch(box_batch=[])


@pytest.mark.parametrize("model", ["tiny_sam2", "tiny_sam2_video"])
def test_a_run_needs_no_torch(model, request, image_folder, tmp_path):
    """Of a model for videos only the image half is run."""
    quantized = carsam.quantize(request.getfixturevalue(model), image_folder, "rtn", count=1)
    quantized.save(tmp_path / "run")
    photo = image_folder / "0.jpg"
    result = run_without_torch(WITHOUT_TORCH, str(tmp_path / "run"), str(photo), str(tmp_path))
    assert result.returncode == 0, result.stderr
    simulated = carsam.SAM2ImagePredictor(carsam.load(tmp_path / "run", "simulated"))
    simulated.set_image(photo)
    expected = simulated.predict(box=BOX, multimask_output=False)
    found = np.load(tmp_path / "found.npz")
    for name, numbers in zip(("masks", "ious", "low_res"), expected, strict=True):
        np.testing.assert_allclose(found[name], numbers, atol=1e-5, err_msg=name)
    written = np.asarray(Image.open(tmp_path / "mask.png")) > 0
    np.testing.assert_array_equal(written, expected[0][0] > 0)


def test_what_it_does_not_do_is_refused(engine):
    with pytest.raises(UserError, match=r"max_hole_area 8; expected 0"):
        carsam.SAM2ImagePredictor(engine, max_hole_area=8)
