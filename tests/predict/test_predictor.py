"""SamPredictor's shapes, rules and refusals, on an engine that shows what it was asked."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from carsam.errors import UserError
from carsam.images.preprocess import Framing
from carsam.images.prompts import Prompts
from carsam.predict.predictor import SamPredictor

SIDE, TOKENS = 64, 8
LOW = 4 * TOKENS


class RecordingEngine:
    """Paints a mask of constant logits per prompt: x0 of its box, or x of its first point."""

    mode = "float"
    framing = Framing(SIDE)

    def __init__(self):
        self.pixels, self.decoded = [], []

    def encode(self, pixels):
        self.pixels.append(pixels)
        return (np.full((2, TOKENS, TOKENS), pixels[0, 0, 0], np.float32), np.zeros(3, np.float32))

    def decode(self, embedding, prompts, multimask_output):
        self.decoded.append(prompts)
        first = prompts.points[:, 0, 0] if prompts.boxes is None else prompts.boxes[:, 0]
        candidates = 3 if multimask_output else 1
        logits = np.broadcast_to(first[:, None, None, None], (len(prompts), candidates, LOW, LOW))
        return logits, np.broadcast_to(first[:, None], (len(prompts), candidates))


@pytest.fixture
def engine():
    return RecordingEngine()


@pytest.fixture
def predictor(engine, photo):
    predictor = SamPredictor(engine)
    predictor.set_image(photo)
    return predictor


BOX = np.array([20, 15, 100, 80])


@pytest.mark.parametrize(("multimask_output", "candidates"), [(True, 3), (False, 1)])
def test_predict_returns_the_shapes_of_segment_anything(predictor, multimask_output, candidates):
    masks, ious, low_res = predictor.predict(box=BOX, multimask_output=multimask_output)
    assert (masks.shape, masks.dtype) == ((candidates, 90, 120), np.bool_)
    assert (ious.shape, ious.dtype) == ((candidates,), np.float32)
    assert (low_res.shape, low_res.dtype) == ((candidates, LOW, LOW), np.float32)


def test_arguments_have_the_order_of_segment_anything(predictor, engine):
    predictor.predict(np.array([[6, 9]]), np.array([1]), BOX, np.zeros((1, LOW, LOW)), False, True)
    (prompts,) = engine.decoded
    assert prompts.points.shape == (1, 1, 2)
    assert prompts.boxes.shape == (1, 4)
    assert prompts.masks.shape == (1, LOW, LOW)


def test_coordinates_are_scaled_into_the_frame(predictor, engine):
    predictor.predict(np.array([[60, 45]]), np.array([1]), BOX)
    (prompts,) = engine.decoded
    assert prompts.points.tolist() == [[[32, 24]]]
    np.testing.assert_allclose(prompts.boxes, BOX[None] * 64 / 120, rtol=1e-6)


def test_prompts_have_the_types_engines_expect(predictor, engine):
    predictor.predict([[60, 45]], [True], list(BOX), np.zeros((1, LOW, LOW)))
    (prompts,) = engine.decoded
    assert prompts.points.dtype == prompts.boxes.dtype == prompts.masks.dtype == np.float32
    assert prompts.labels.dtype == np.int64


def test_logits_are_returned_on_demand(predictor):
    masks, _, _ = predictor.predict(box=BOX, return_logits=True)
    np.testing.assert_allclose(masks, 20 * 64 / 120, rtol=1e-5)


def test_box_with_leading_dimension_is_accepted(predictor):
    assert predictor.predict(box=BOX[None])[0].shape == (3, 90, 120)


def test_box_beyond_the_image_is_accepted(predictor, engine):
    predictor.predict(box=[-10, -10, 500, 500])
    assert engine.decoded[0].boxes[0, 2] > SIDE


def test_box_without_area_is_accepted(predictor):
    assert predictor.predict(box=[5, 5, 5, 5])[0].shape == (3, 90, 120)


def test_image_properties(predictor):
    assert predictor.is_image_set
    assert predictor.original_size == (90, 120)
    assert predictor.input_size == (48, 64)
    assert predictor.get_image_embedding().shape == (1, 2, TOKENS, TOKENS)
    assert len(predictor.features) == 2


def test_bgr_image_equals_rgb_image(engine, photo):
    predictor = SamPredictor(engine)
    predictor.set_image(photo)
    predictor.set_image(photo[..., ::-1], "BGR")
    np.testing.assert_array_equal(*engine.pixels)


def test_file_and_pillow_image_equal_the_array(engine, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    predictor = SamPredictor(engine)
    for image in (photo, Image.fromarray(photo), tmp_path / "photo.png"):
        predictor.set_image(image)
    assert all(np.array_equal(engine.pixels[0], pixels) for pixels in engine.pixels)


def test_batch_is_decoded_in_chunks(predictor, engine):
    boxes = np.arange(10)[:, None] + np.array([0, 0, 5, 5])
    masks, ious, low_res = predictor.predict_batch(boxes, chunk=4)
    assert [len(prompts) for prompts in engine.decoded] == [4, 4, 2]
    assert (masks.shape, ious.shape, low_res.shape) == (
        (10, 1, 90, 120), (10, 1), (10, 1, LOW, LOW),
    )  # fmt: skip
    np.testing.assert_allclose(ious[:, 0], np.arange(10) * 64 / 120, rtol=1e-6)


def test_batch_equals_single_predictions(predictor):
    boxes = np.array([[-9, 0, 5, 5], [7, 8, 9, 10]])
    batch = predictor.predict_batch(boxes, multimask_output=True)
    single = [predictor.predict(box=box) for box in boxes]
    for whole, parts in zip(batch, zip(*single, strict=True), strict=True):
        np.testing.assert_array_equal(whole, parts)


def test_earlier_batch_is_a_mask_input(predictor, engine):
    points, labels = np.ones((2, 1, 2)), np.ones((2, 1))
    _, _, low_res = predictor.predict_batch(None, points, labels)
    predictor.predict_batch(None, points, labels, low_res)
    assert engine.decoded[1].masks.shape == (2, LOW, LOW)


@pytest.mark.parametrize(
    "prompts",
    [
        {"boxes": np.empty((0, 4))},
        {"point_coords": np.empty((0, 2, 2)), "point_labels": np.empty((0, 2))},
    ],
)
def test_empty_batch_gives_empty_arrays(predictor, engine, prompts):
    masks, ious, low_res = predictor.predict_batch(**prompts)
    assert (masks.shape, ious.shape, low_res.shape) == ((0, 1, 90, 120), (0, 1), (0, 1, LOW, LOW))
    assert engine.decoded == []


def test_model_with_an_engine_is_accepted(engine):
    assert SamPredictor(SimpleNamespace(engine=lambda: engine)).engine is engine


def test_folder_is_loaded(engine, monkeypatch):
    monkeypatch.setattr("carsam.predict.predictor.load", {"runs/tiny": engine}.get)
    assert SamPredictor("runs/tiny").engine is engine


def refused(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_model_without_an_engine_is_refused():
    refused(lambda: SamPredictor(object()), "object", "expected an engine")


@pytest.mark.parametrize(
    "use",
    [
        lambda predictor: predictor.predict(box=BOX),
        lambda predictor: predictor.get_image_embedding(),
        lambda predictor: predictor.original_size,
        lambda predictor: predictor.features,
    ],
)
def test_use_before_set_image_is_refused(engine, use):
    refused(lambda: use(SamPredictor(engine)), "set_image")


def test_reset_forgets_the_image(predictor):
    predictor.reset_image()
    assert not predictor.is_image_set
    refused(lambda: predictor.predict(box=BOX), "set_image")


def test_failed_set_image_leaves_no_image(predictor):
    refused(lambda: predictor.set_image(np.zeros((4, 4))), "(4, 4)")
    assert not predictor.is_image_set


def test_unknown_image_format_is_refused(predictor, photo):
    refused(lambda: predictor.set_image(photo, "GBR"), "'GBR'", "'RGB' or 'BGR'")


POINT = {"point_coords": [[3, 4]], "point_labels": [1]}


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"point_coords": [[3, 4]]}, ["points without labels"]),
        ({"point_labels": [1]}, ["labels without points"]),
        ({**POINT, "point_labels": [1, 0]}, ["labels", "(1, 2)", "(1, 1)"]),
        ({**POINT, "point_labels": [4]}, ["[4]", "1 (foreground)"]),
        ({**POINT, "point_labels": [0.5]}, ["[0.5]"]),
        ({**POINT, "point_coords": [3, 4]}, ["points", "(P, N, 2)"]),
        ({"point_coords": np.empty((0, 2)), "point_labels": []}, ["neither points nor a box"]),
        ({**POINT, "point_coords": [[np.nan, 4]]}, ["points", "NaN"]),
        ({**POINT, "point_coords": [["a", 4]]}, ["points", "numbers"]),
        ({"box": [0, 0, np.inf, 4]}, ["boxes", "infinite"]),
        ({"box": [0, 0, 4]}, ["box", "(3,)", "(4,)"]),
        ({"box": [[0, 0, 4, 4]] * 2}, ["(2, 4)", "predict_batch"]),
        ({"box": [9, 0, 4, 4]}, ["[9.0, 0.0, 4.0, 4.0]", "x0 <= x1"]),
        ({"box": [0, 9, 4, 4]}, ["y0 <= y1"]),
        ({**POINT, "point_labels": ["object"]}, ["labels", "numbers"]),
        ({**POINT, "point_labels": [[1], [1, 0]]}, ["labels", "numbers"]),
        ({**POINT, "point_labels": [np.nan]}, ["[nan]"]),
        ({**POINT, "point_labels": []}, ["points without labels"]),
        ({"box": [], "point_coords": []}, ["neither points nor a box"]),
        ({"box": [[0, 0], [4]]}, ["boxes", "numbers"]),
        ({"box": [None, 0, 4, 4]}, ["boxes", "NaN"]),
        ({"box": [0, 0, 1e300, 4]}, ["boxes", "infinite"]),
        ({"box": "0,0,4,4"}, ["boxes", "numbers"]),
        ({"box": [0.1, 0.2, 0.9, 0.8]}, ["[0.1, 0.2, 0.9, 0.8]", "normalised", "120", "90"]),
        ({"box": [0, 0, 1, 1]}, ["normalised", "pixels"]),
        ({"box": [0.5, 0.5, 0.2, 0.2]}, ["normalised"]),
        ({**POINT, "point_coords": [[0.5, 0.25]]}, ["[0.5, 0.25]", "normalised", "pixels"]),
        ({"box": [130, 10, 150, 50]}, ["[130.0, 10.0, 150.0, 50.0]", "outside", "120 pixels wide"]),
        ({"box": [10, 90, 50, 95]}, ["outside", "90 high"]),
        ({"box": [-20, 10, 0, 50]}, ["outside"]),
        ({"box": [10, -20, 50, -1]}, ["outside"]),
        ({**POINT, "mask_input": np.zeros((LOW, LOW))}, ["mask input", "(1, 32, 32)"]),
        ({**POINT, "mask_input": np.zeros((0, LOW, LOW))}, ["mask input", "(1, 0, 32, 32)"]),
        ({**POINT, "mask_input": "mask.png"}, ["mask input", "numbers"]),
        ({**POINT, "mask_input": np.zeros((1, 256, 256))}, ["(1, 1, 256, 256)"]),
        ({**POINT, "mask_input": np.full((1, LOW, LOW), np.nan)}, ["mask input", "NaN"]),
    ],
)
def test_wrong_prompts_are_refused(predictor, prompt, words):
    refused(lambda: predictor.predict(**prompt), *words)


@pytest.mark.parametrize("empty", [np.empty((0, 2)), [], np.empty(0), torch.empty(0, 2)])
def test_points_without_elements_beside_a_box_are_none(predictor, engine, empty):
    labels = np.empty(0)
    predictor.predict(point_coords=empty, point_labels=labels, box=BOX)
    assert engine.decoded[0].points is None and engine.decoded[0].labels is None


@pytest.mark.parametrize("empty", [np.empty((0, 4)), []])
def test_a_box_without_elements_beside_points_is_none(predictor, engine, empty):
    predictor.predict(**POINT, box=empty)
    assert engine.decoded[0].boxes is None


@pytest.mark.parametrize("points", [np.empty((2, 0, 2)), np.empty((0, 1, 2))])
def test_points_without_elements_beside_a_batch_of_boxes_are_none(predictor, engine, points):
    predictor.predict_batch([BOX, BOX], points, np.empty(points.shape[:2]))
    assert engine.decoded[0].points is None


def test_no_boxes_at_all_give_no_masks(predictor):
    assert predictor.predict_batch([])[0].shape == (0, 1, 90, 120)


def test_tensors_with_gradients_are_prompts(predictor, engine):
    box = torch.tensor([20.0, 15, 100, 80], dtype=torch.bfloat16, requires_grad=True)
    points = torch.tensor([[60.0, 45]], requires_grad=True)
    masks = torch.zeros(1, LOW, LOW, requires_grad=True)
    predictor.predict(points, torch.tensor([True]), box, masks)
    (prompts,) = engine.decoded
    predictor.predict([[60, 45]], [1.0], BOX, np.zeros((1, LOW, LOW)))
    again = engine.decoded[1]
    for name in ("points", "labels", "boxes", "masks"):
        np.testing.assert_array_equal(getattr(prompts, name), getattr(again, name))


def test_a_box_of_a_pixel_in_a_batch_of_others_is_no_normalised_one(predictor, engine):
    predictor.predict_batch([[0, 0, 1, 1], BOX])
    assert len(engine.decoded[0]) == 2


def test_the_pixel_of_an_image_of_one_is_a_box(engine):
    predictor = SamPredictor(engine)
    predictor.set_image(np.zeros((1, 1, 3), np.uint8))
    assert predictor.predict(box=[0, 0, 1, 1])[0].shape == (3, 1, 1)


def test_a_point_on_the_first_pixels_is_a_point(predictor):
    assert predictor.predict([[1, 0]], [1])[0].shape == (3, 90, 120)


def test_checked_prompts_are_predicted_as_they_are(predictor):
    prompts = Prompts(boxes=predictor.frame.map_boxes(BOX[None].astype(np.float32)))
    for found, expected in zip(
        predictor.predict_prompts(prompts), predictor.predict_batch(BOX[None]), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_deep_images_are_told_of(predictor, tmp_path):
    Image.fromarray(np.arange(5000, dtype=np.uint16).reshape(50, 100)).save(tmp_path / "deep.png")
    said = []
    predictor.set_image(tmp_path / "deep.png", warn=said.append)
    assert len(said) == 1 and "0 to 4999" in said[0]


def test_a_photo_beyond_the_limit_needs_a_higher_one(predictor, photo, tmp_path, monkeypatch):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refused(lambda: predictor.set_image(tmp_path / "photo.png"), "max_megapixels=1")
    predictor.set_image(tmp_path / "photo.png", max_megapixels=1)
    assert predictor.original_size == (90, 120)


@pytest.mark.parametrize("image", [None, 3, {}, [[0.5]], b"photo.png", "", ".", "no.png", "\0"])
def test_what_is_no_image_is_refused(predictor, image):
    refused(lambda: predictor.set_image(image))
    assert not predictor.is_image_set


def test_prompts_of_different_number_are_refused(predictor):
    boxes, points, labels = np.zeros((2, 4)), np.zeros((3, 1, 2)), np.ones((3, 1))
    refused(lambda: predictor.predict_batch(boxes, points, labels), "'boxes': 2, 'points': 3")


def test_chunk_of_zero_is_refused(predictor):
    refused(lambda: predictor.predict_batch(BOX[None], chunk=0), "chunk 0")
