import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from carsam.errors import UserError
from carsam.evaluation import masks
from carsam.evaluation.coco_data import CocoImage
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.detections import Detection
from carsam.evaluation.prompts import (
    PROMPT_KINDS,
    deepest_point,
    prompt_kind,
    squared_distances,
    usable_box,
)
from carsam.evaluation.warning_log import WarningLog

IMAGE = CocoImage(1, "1.png", width=80, height=64)


def requests(kind, data, detections=(), log=None):
    image = data.images[0]
    made = PROMPT_KINDS[kind].requests(
        image, data.of_image(image.id), detections, log or WarningLog()
    )
    return made


def test_boxes_ask_for_every_object_but_crowds(coco_json):
    data = read_coco(coco_json(crowds=True))
    asked = [request.annotation.id for request in requests("boxes", data)]
    assert asked == [item.id for item in data.of_image(10) if not item.crowd]


def test_boxes_are_those_of_the_annotations(coco_json):
    for request in requests("boxes", read_coco(coco_json())):
        assert request.box == request.annotation.box


def test_clicks_lie_on_the_object(coco_json):
    for request in requests("clicks", read_coco(coco_json())):
        x, y = request.point
        assert masks.decode(request.truth)[int(y), int(x)]


def test_detections_ask_for_every_box_under_its_category(coco_json):
    found = [Detection(0, 10, 5, (1, 2, 30, 40), 0.5), Detection(1, 10, 9, (3, 4, 5, 6), 0.25)]
    asked = requests("detections", read_coco(coco_json()), found)
    assert [(r.box, r.category_id, r.detector_score) for r in asked] == [
        ((1, 2, 30, 40), 5, 0.5),
        ((3, 4, 5, 6), 9, 0.25),
    ]


@pytest.mark.parametrize(
    ("box", "used", "warning"),
    [
        ((1, 2, 30, 40), (1, 2, 30, 40), None),
        ((-0.5, 2, 80.5, 40), (0, 2, 80, 40), None),
        ((-5, 2, 30, 70), (0, 2, 30, 64), "box-clipped"),
        ((5, 5, 5, 40), None, "zero-area-box"),
        ((5, 5, 4, 40), None, "zero-area-box"),
        ((90, 5, 99, 40), None, "box-outside-image"),
        ((-9, 5, 0, 40), None, "box-outside-image"),
    ],
)
def test_boxes_are_used_as_far_as_they_lie_inside(box, used, warning):
    log = WarningLog()
    assert usable_box(box, IMAGE, 7, log) == used
    assert [entry["name"] for entry in log.to_json()] == ([warning] if warning else [])


def test_an_image_of_unknown_size_has_no_edge_below_or_on_the_right():
    unknown = CocoImage(1, "1.png", width=0, height=0)
    assert usable_box((-5, 2, 1000, 2000), unknown, 7, WarningLog()) == (0, 2, 1000, 2000)


def test_deepest_point_of_a_rectangle_is_its_centre():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:15] = True
    assert deepest_point(mask) == (12, 6)


def test_edge_of_the_image_is_a_border():
    assert deepest_point(np.ones((5, 5), bool)) == (2, 2)


@given(arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24))))
def test_distances_are_exact(mask):
    scipy_ndimage = pytest.importorskip("scipy.ndimage")
    expected = scipy_ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] ** 2
    assert np.allclose(squared_distances(mask), expected)


def test_unknown_kind_is_refused():
    with pytest.raises(UserError, match="expected one of boxes, detections, clicks"):
        prompt_kind("circles")
