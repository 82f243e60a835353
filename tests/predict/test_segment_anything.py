"""Code written for segment-anything, and the package itself, on a 4-bit run: the same bits."""

import base64

import numpy as np
import pytest
import torch
from without_torch import run_without_torch

import carsam
from carsam.engines.load import load
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.families.sam2.family import Sam2Family

RUN = "sam-mini-w4a4"
BOX = np.array([20, 15, 100, 80])
POINTS, LABELS = np.array([[60, 45], [20, 20]]), np.array([1, 0])


@pytest.fixture(scope="module")
def sam():
    return carsam.sam_model_registry["vit_b"](checkpoint=RUN)


@pytest.fixture
def ours(sam, photo):
    predictor = carsam.SamPredictor(sam.engine())
    predictor.set_image(photo)
    return predictor


@pytest.fixture
def theirs(segment_anything, sam, photo):
    predictor = segment_anything.SamPredictor(sam)
    predictor.set_image(photo)
    return predictor


def assert_same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(other))


@pytest.mark.parametrize("multimask_output", [True, False])
@pytest.mark.parametrize("return_logits", [True, False])
@pytest.mark.parametrize(
    "prompt",
    [
        {"box": BOX},
        {"point_coords": POINTS, "point_labels": LABELS},
        {"point_coords": POINTS, "point_labels": LABELS, "box": BOX},
        {},
    ],
    ids=["box", "points", "both", "nothing"],
)
def test_metas_predictor_gives_our_bits(ours, theirs, prompt, multimask_output, return_logits):
    prompt = {"multimask_output": multimask_output, "return_logits": return_logits, **prompt}
    assert_same(ours.predict(**prompt), theirs.predict(**prompt))


@pytest.mark.parametrize("prompt", [{}, {"box": BOX}], ids=["alone", "beside a box"])
def test_a_mask_is_a_prompt(ours, theirs, prompt):
    low_res = ours.predict(box=BOX, multimask_output=False)[2]
    assert_same(ours.predict(mask_input=low_res, **prompt), theirs.predict(None, None, **prompt,
                mask_input=low_res))  # fmt: skip
    assert (ours.predict(mask_input=low_res)[2] != ours.predict()[2]).any()


def test_predict_torch_gives_the_bits_of_metas(ours, theirs):
    boxes = torch.from_numpy(np.stack([BOX, BOX // 2]))
    results = []
    for predictor in (ours, theirs):
        mapped = predictor.transform.apply_boxes_torch(boxes, (90, 120))
        low_res = predictor.predict_torch(None, None, mapped, multimask_output=False)[2]
        results.append(predictor.predict_torch(None, None, mapped, low_res, True, True))
    assert_same(*results)
    assert results[0][0].shape == (2, 3, 90, 120)


def test_the_transform_is_metas(ours, theirs, photo):
    size, points = photo.shape[:2], np.array([[3.3, 4.7], [119.9, 0]])
    assert_same([ours.transform.apply_image(photo)], [theirs.transform.apply_image(photo)])
    for name in ("apply_coords", "apply_boxes"):
        given = points if name == "apply_coords" else points.reshape(1, 4)
        mapped, expected = (getattr(p.transform, name)(given, size) for p in (ours, theirs))
        np.testing.assert_array_equal(mapped, expected)
        assert mapped.dtype == expected.dtype
        tensor = torch.from_numpy(given)
        assert_same(
            [getattr(ours.transform, f"{name}_torch")(tensor, size)],
            [getattr(theirs.transform, f"{name}_torch")(tensor, size)],
        )
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    # Meta's 1.0 takes batch and channels for height and width there; newer ones do not.
    resized = ours.transform.apply_image_torch(image)[0].permute(1, 2, 0)
    np.testing.assert_allclose(resized, ours.transform.apply_image(photo), atol=1)
    assert ours.transform.get_preprocess_shape(90, 120, 64) == (48, 64)


def test_set_torch_image_is_set_image_after_resizing(ours, photo):
    resized = torch.from_numpy(ours.transform.apply_image(photo)).permute(2, 0, 1)[None]
    expected = ours.predict(box=BOX)
    ours.reset_image()
    ours.set_torch_image(resized, (90, 120))
    assert_same(ours.predict(box=BOX), expected)
    with pytest.raises(UserError, match=r"\(1, 3, 576, 768\)"):
        ours.set_torch_image(resized, (90, 60))


def test_corners_as_points_are_a_box(ours):
    expected = ours.predict(point_coords=POINTS, point_labels=LABELS, box=BOX)
    corners = np.concatenate([POINTS[:1], BOX.reshape(2, 2), POINTS[1:]])
    assert_same(ours.predict(corners, [1, 2, 3, 0]), expected)
    assert_same(ours.predict(BOX.reshape(2, 2), [2, 3]), ours.predict(box=BOX))
    mapped = ours.transform.apply_coords_torch(torch.from_numpy(BOX.reshape(1, 2, 2)), (90, 120))
    assert_same((part[0] for part in ours.predict_torch(mapped, torch.tensor([[2, 3]]))),
                ours.predict(box=BOX))  # fmt: skip


def test_a_sam_takes_batches_of_images(sam, ours, photo):
    image = torch.from_numpy(ours.transform.apply_image(photo)).permute(2, 0, 1)
    boxes = ours.transform.apply_boxes_torch(torch.from_numpy(BOX[None]), (90, 120))
    record = {"image": image, "original_size": (90, 120), "boxes": boxes}
    points = {"point_coords": boxes.reshape(1, 2, 2), "point_labels": torch.tensor([[1, 0]])}
    first, second = sam([record, {**record, "boxes": None, **points}], multimask_output=False)
    assert_same((part[0] for part in first.values()), ours.predict(box=BOX, multimask_output=False))
    assert second["masks"].shape == (1, 1, 90, 120)


def test_an_embedding_comes_as_a_contiguous_array_or_tensor(sam, ours, photo):
    array = ours.get_image_embedding()
    assert len(base64.b64decode(base64.b64encode(array))) == array.nbytes
    predictor = carsam.SamPredictor(sam)
    predictor.set_image(photo)
    tensor = predictor.get_image_embedding()
    assert not tensor.is_cuda and tensor.is_contiguous()
    np.testing.assert_array_equal(tensor.cpu().numpy(), array)
    np.testing.assert_array_equal(predictor.features, array)


@pytest.mark.parametrize("kind", ["tuple", "array", "tensor"])
def test_features_that_were_kept_are_assigned_again(sam, ours, kind):
    expected = ours.predict(box=BOX)
    kept = {
        "tuple": ours.features,
        "array": ours.get_image_embedding(),
        "tensor": torch.from_numpy(ours.get_image_embedding()),
    }[kind]
    other = carsam.SamPredictor(sam)
    other.features, other.original_size, other.input_size = kept, [90, 120], (576, 768)
    other.is_image_set = True
    assert_same(other.predict(box=BOX), expected)
    other.input_size = (768, 576)
    with pytest.raises(UserError, match=r"\(768, 576\).*\(90, 120\).*\(576, 768\)"):
        other.predict(box=BOX)


def test_tensors_lie_on_the_device_that_is_asked_for():
    sam = carsam.Sam(load(RUN))
    assert carsam.SamPredictor(sam).device == torch.device("cpu")
    assert sam.to(device="meta").eval() is sam
    assert sam.preprocess(torch.zeros(3, 576, 768)).device.type == "meta"
    assert list(sam.parameters()) == []


def test_no_image_is_metas_error_too(sam):
    with pytest.raises(RuntimeError, match="set_image"):
        carsam.SamPredictor(sam).predict(box=BOX)
    predictor = carsam.SamPredictor(sam)
    predictor.features = np.zeros((1, 256, 48, 48))
    with pytest.raises(RuntimeError, match="original_size"):
        predictor.predict(box=BOX)


def test_models_with_more_than_an_embedding_are_refused(tiny_sam2, photo):
    engine = TorchEngine(Sam2Family(), tiny_sam2, "float")
    predictor = carsam.SamPredictor(carsam.Sam(engine))
    predictor.set_image(photo)
    assert predictor.predict(box=BOX)[0].shape == (3, 90, 120)
    with pytest.raises(UserError, match=r"reads 3 arrays .*SamAutomaticMaskGenerator"):
        _ = predictor.features


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda sam: carsam.sam_model_registry["vit_h"](), "no checkpoint for vit_h"),
        (lambda sam: carsam.sam_model_registry["vit_h"](checkpoint="./no/run"), "no/run"),
        (lambda sam: sam.mask_decoder(torch.zeros(1, 4, 4, 4), None, None, None, True),
         "type NoneType; expected what this model's own prompt_encoder"),
        (lambda sam: sam.postprocess_masks(torch.zeros(1, 1, 4, 4), (8, 8), (90, 120)),
         r"input_size \(8, 8\)"),
        (lambda sam: sam.prompt_encoder((torch.zeros(2, 2), torch.zeros(2))), r"\(B, N, 2\)"),
        (lambda sam: sam.prompt_encoder((torch.zeros(2, 1, 2), torch.zeros(2))), "one label"),
        (lambda sam: sam.prompt_encoder(boxes=torch.zeros(2, 4), masks=torch.zeros(1, 1, 4, 4)),
         "different number"),
        (lambda sam: sam.prompt_encoder(masks=torch.zeros(2, 4, 4)), r"\(B, 1, 4h, 4w\)"),
        (lambda sam: setattr(carsam.SamPredictor(sam), "features", np.zeros((2, 4, 4, 4))),
         r"\(2, 4, 4, 4\)"),
        (lambda sam: setattr(carsam.SamPredictor(sam), "original_size", (0, 3)), r"\(0, 3\)"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_sentence(sam, use, sentence):
    with pytest.raises(UserError, match=sentence):
        use(sam)


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ({"point_coords": POINTS, "point_labels": [2, 1]}, "0 points of label 3"),
        ({"point_coords": POINTS, "point_labels": [2, 2]}, "2 points of label 2"),
        ({"point_coords": POINTS, "point_labels": [2, 3], "box": BOX}, "beside a box"),
        ({"point_coords": POINTS, "point_labels": [2, 3]}, "left of or above"),
        ({"point_coords": POINTS, "point_labels": [4, 1]}, "3 .second corner of a box"),
    ],
)
def test_corners_that_make_no_box_are_refused(ours, prompt, sentence):
    with pytest.raises(UserError, match=sentence):
        ours.predict(**prompt)


def test_only_tensors_need_torch():
    result = run_without_torch(
        "import numpy as np, carsam\n"
        f"sam = carsam.sam_model_registry['default'](checkpoint={RUN!r})\n"
        "predictor = carsam.SamPredictor(sam)\n"
        "predictor.set_image(np.zeros((9, 12, 3), np.uint8))\n"
        "assert predictor.predict()[0].shape == (3, 9, 12)\n"
        "assert predictor.transform.apply_coords(np.ones((1, 2)), (9, 12)).shape == (1, 2)\n"
        "try: predictor.device\n"
        "except carsam.errors.UserError as error: assert 'carsam[quantize]' in str(error)\n"
        "else: raise AssertionError"
    )
    assert result.returncode == 0, result.stderr
