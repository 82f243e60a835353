import pytest
from hypothesis import given
from hypothesis import strategies as st

from carsam.evaluation import masks
from carsam.evaluation.coco_data import CocoImage
from carsam.evaluation.segmentations import usable_segmentation

IMAGE = CocoImage(1, "1.png", width=80, height=64)
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        SQUARE,
        [[float(value) for value in SQUARE]],
        [[str(value) for value in SQUARE]],
        [[-5, -5, 100, -5, 100, 90]],
    ],
)
def test_polygons_are_drawn(segmentation):
    usable, partial = usable_segmentation(segmentation, IMAGE)
    assert masks.area(masks.segmentation_rle(usable, IMAGE)) >= 400
    assert not partial


@pytest.mark.parametrize(
    "polygon",
    [
        [],
        [5, 5],
        [5, 5, 9, 9],
        [5, 5, 9, 9, 5],
        [1, 2, 3, 4, 5, 6, 7],
        [0, 0, 9, 0, 9, float("nan")],
        [0, 0, 9, 0, 9, float("inf")],
        [0, 0, 9, 0, 9, None],
        [0, 0, 9, 0, 9, True],
        [0, 0, 1e9, 0, 0, 1e9],
        ["a"] * 6,
        None,
        7,
        "polygon",
        {},
        [[0, 0], [9, 0], [9, 9]],
    ],
)
def test_polygons_that_cannot_be_drawn_are_left_out(polygon):
    assert usable_segmentation([SQUARE, polygon], IMAGE) == ([SQUARE], True)
    assert usable_segmentation([polygon], IMAGE)[0] is None


@pytest.mark.parametrize(
    "runs",
    [
        {"size": [64, 80], "counts": [64, 64, 64 * 78]},
        {"size": [64.0, "80"], "counts": [64.0, "64", 64 * 78]},
    ],
)
def test_run_lengths_may_be_floats_or_text(runs):
    usable, _ = usable_segmentation(runs, IMAGE)
    assert masks.area(masks.segmentation_rle(usable, IMAGE)) == 64


def test_compressed_run_lengths_are_kept():
    runs = {"size": [64, 80], "counts": "PP3PP3"}
    runs["counts"] = masks.segmentation_rle([SQUARE], IMAGE)["counts"].decode()
    assert usable_segmentation(runs, IMAGE) == (runs, False)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        {},
        "",
        7,
        {"size": [64, 80]},
        {"size": [64, 80], "counts": []},
        {"size": [64, 80], "counts": [1, 2]},
        {"size": [64, 80], "counts": [-1, 64 * 80 + 1]},
        {"size": [64, 80], "counts": [0.5, 64 * 80 - 0.5]},
        {"size": [64, 80], "counts": [None, 64 * 80]},
        {"size": [64, 80], "counts": "?"},
        {"size": [64, 80], "counts": "\ud800"},
        {"size": [64, 80], "counts": 5},
        {"size": [80, 64], "counts": [80 * 64]},
        {"size": [64], "counts": [80 * 64]},
        {"size": [64, 80, 1], "counts": [80 * 64]},
        {"size": None, "counts": [80 * 64]},
        {"counts": [80 * 64]},
    ],
)
def test_segmentations_that_are_no_masks_are_left_out(segmentation):
    assert usable_segmentation(segmentation, IMAGE)[0] is None


@given(st.text() | st.text("01234567PQRo`?_", max_size=40))
def test_any_text_of_run_lengths_is_decoded_or_left_out(counts):
    usable, _ = usable_segmentation({"size": [64, 80], "counts": counts}, IMAGE)
    assert usable is None or masks.decode(usable).shape == (64, 80)


@pytest.mark.parametrize("segmentation", [[SQUARE], {"size": [0, 0], "counts": []}])
def test_nothing_is_drawn_in_an_image_of_unknown_size(segmentation):
    assert usable_segmentation(segmentation, CocoImage(1, "1.png", 0, 0))[0] is None
