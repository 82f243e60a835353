"""X-AnyLabeling-Server's protocol: the whole photo and marks come, polygons go back."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw
from serving import photo_file

import carsam

PHOTO = f"data:image/png;base64,{base64.b64encode(photo_file(1)).decode()}"
BOX = {"type": "rectangle", "data": [90, 72, 30, 18], "label": 1}
POINT = {"type": "point", "data": [48, 36], "label": 1}


def ask(server, *marks, image=PHOTO, model="carsam", **params):
    params = {"conf_threshold": 0.0, "epsilon_factor": 0.001, "marks": list(marks), **params}
    return server.post("/v1/predict", {"model": model, "image": image, "params": params})


def drawn(shapes) -> np.ndarray:
    picture = Image.new("1", (120, 90))
    for shape in shapes:
        points = [(x - 0.5, y - 0.5) for x, y in shape["points"]]
        ImageDraw.Draw(picture).polygon(points, fill=1)
    return np.asarray(picture)


@pytest.fixture(scope="module")
def predictor(engine):
    predictor = carsam.SamPredictor(engine)
    predictor.set_image(Image.open(BytesIO(photo_file(1))))
    return predictor


def test_the_model_is_listed_with_what_the_program_shows(server):
    models = server.get("/v1/models").json["data"]
    assert models["carsam"]["display_name"] == "CAR-SAM sam-mini-w4a4"
    assert {"name": "button_add_point", "value": None} in models["carsam"]["widgets"]
    assert server.get("/v1/models/carsam/info").json["data"]["model_id"] == "carsam"
    assert server.get("/v1/models/another/info").status == 404


def test_a_rectangle_becomes_polygons(server, predictor):
    data = ask(server, BOX).json["data"]
    masks, ious, _ = predictor.predict(box=[30, 18, 90, 72], multimask_output=False)
    assert data["replace"] is False
    for shape in data["shapes"]:
        assert (shape["label"], shape["shape_type"]) == ("AUTOLABEL_OBJECT", "polygon")
        assert shape["points"][0] == shape["points"][-1]
        assert shape["score"] == pytest.approx(min(max(float(ious[0]), 0), 1))
    found = drawn(data["shapes"])
    assert (found & masks[0]).sum() > 0.85 * (found | masks[0]).sum()


def test_a_single_point_gets_the_most_confident_mask(server, predictor):
    found = drawn(ask(server, POINT).json["data"]["shapes"])
    masks, ious, _ = predictor.predict([[48, 36]], [1])
    best = masks[ious.argmax()]
    assert (found & best).sum() > 0.7 * (found | best).sum()


def test_a_coarser_outline_has_fewer_points(server):
    fine, coarse = (
        max(
            len(shape["points"])
            for shape in ask(server, BOX, epsilon_factor=e).json["data"]["shapes"]
        )
        for e in (0, 0.02)
    )
    assert 4 <= coarse < fine


def test_every_rectangle_gets_its_mask_and_none_without_marks(server):
    other = {"type": "rectangle", "data": [2, 2, 40, 30]}
    one, two = (ask(server, *marks).json["data"]["shapes"] for marks in ([BOX], [BOX, other]))
    assert two[: len(one)] == one
    assert len(two) > len(one)
    assert ask(server).json["data"]["shapes"] == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "yolo"}, 404),
        ({"image": "/etc/passwd"}, 400),
        ({"image": "http://localhost/a.png"}, 400),
        ({"image": "data:image/png;base64,AA!A"}, 400),
        ({"epsilon_factor": 5}, 400),
    ],
)
def test_wrong_requests_are_refused(server, change, status):
    reply = ask(server, BOX, **change)
    assert reply.status == status
    assert reply.json["success"] is False
    assert reply.error


@pytest.mark.parametrize("mark", [7, {}, {"type": "point", "data": [1]}, {"type": "x", "data": []}])
def test_wrong_marks_are_refused(server, mark):
    assert ask(server, mark).status == 400
