"""Label Studio's protocol: marks in percent come, brush or polygon regions go back."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from serving import photo_file, serving

import carsam
from carsam.annotation.outputs.label_studio import packed
from carsam.images.run_lengths import RunLengths

CONFIG = """
<View>
  <Image name="photo" value="$picture" zoom="true"/>
  <BrushLabels name="tag" toName="photo"><Label value="Cat"/></BrushLabels>
  <KeyPointLabels name="key" toName="photo" smart="true"><Label value="Cat"/></KeyPointLabels>
  <RectangleLabels name="box" toName="photo" smart="true"><Label value="Cat"/></RectangleLabels>
</View>
"""
POLYGONS = CONFIG.replace("BrushLabels", "PolygonLabels")
TOKEN = "of Label Studio"


class LabelStudio(BaseHTTPRequestHandler):
    """Hands out one image to those who know the token, and leads elsewhere from another path."""

    def do_GET(self):
        if self.headers["Authorization"] != f"Token {TOKEN}":
            self.send_error(401)
        elif self.path == "/data/upload/1/a%20photo.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(photo_file(1))
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def studio():
    studio = HTTPServer(("127.0.0.1", 0), LabelStudio)
    threading.Thread(target=studio.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{studio.server_port}"
    studio.shutdown()
    studio.server_close()


@pytest.fixture(scope="module")
def server(studio):
    with serving("--images-from", studio, CARSAM_IMAGES_TOKEN=TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def predictor(engine):
    predictor = carsam.SamPredictor(engine)
    predictor.set_image(Image.open(BytesIO(photo_file(1))))
    return predictor


def rectangle(x, y, width, height):
    value = {"x": x, "y": y, "width": width, "height": height, "rectanglelabels": ["Cat"]}
    return mark("rectanglelabels", value)


def keypoint(x, y, positive):
    value = {"x": x, "y": y, "width": 0.3, "keypointlabels": ["Cat"]}
    return {**mark("keypointlabels", value), "is_positive": positive}


def mark(kind, value):
    size = {"original_width": 120, "original_height": 90, "image_rotation": 0}
    return {"type": kind, "to_name": "photo", "from_name": "any", "value": value, **size}


def ask(server, address, *marks, config=CONFIG):
    task = {"id": 1, "data": {"picture": address}}
    params = {"context": {"result": list(marks)}} if marks else {}
    request = {"tasks": [task], "label_config": config, "project": "1.2", "params": params}
    return server.post("/predict", request)


@pytest.mark.parametrize("address", ["/data/upload/1/a%20photo.png", "/data/upload/1/a photo.png"])
def test_a_rectangle_becomes_a_brush_region(server, predictor, address):
    reply = ask(server, address, rectangle(25, 20, 50, 60)).json
    assert reply["model_version"] == "sam-mini-w4a4"
    (prediction,) = reply["results"]
    (region,) = prediction["result"]
    masks, ious, _ = predictor.predict(box=[30, 18, 90, 72], multimask_output=False)
    value = {"format": "rle", "rle": packed(RunLengths.of_mask(masks[0])), "brushlabels": ["Cat"]}
    assert region["value"] == value
    assert (region["type"], region["from_name"], region["to_name"]) == (
        "brushlabels",
        "tag",
        "photo",
    )
    assert (region["original_width"], region["original_height"]) == (120, 90)
    assert region["score"] == prediction["score"] == pytest.approx(float(ious[0]))


def test_keypoints_become_a_polygon_where_there_is_no_brush(server, predictor):
    data = f"data:image/png;base64,{base64.b64encode(photo_file(1)).decode()}"
    reply = ask(server, data, keypoint(40, 40, True), keypoint(5, 5, False), config=POLYGONS).json
    regions = reply["results"][0]["result"]
    masks, _, _ = predictor.predict([[48, 36], [6, 4.5]], [1, 0], multimask_output=False)
    drawn = np.zeros((90, 120), bool)
    from PIL import ImageDraw

    for region in regions:
        assert region["type"] == "polygonlabels"
        picture = Image.new("1", (120, 90))
        points = [(1.2 * x - 0.5, 0.9 * y - 0.5) for x, y in region["value"]["points"]]
        ImageDraw.Draw(picture).polygon(points, fill=1)
        drawn |= np.asarray(picture)
    assert (drawn & masks[0]).sum() > 0.8 * (drawn | masks[0]).sum()


def test_tasks_without_marks_get_empty_predictions(server):
    reply = ask(server, "/nowhere").json
    assert reply["results"] == [{"model_version": "sam-mini-w4a4", "score": 0.0, "result": []}]


def test_setup_and_health_answer(server):
    request = {"project": "1.2", "schema": CONFIG, "hostname": "http://localhost:8080"}
    assert server.post("/setup", request).json == {"model_version": "sam-mini-w4a4"}
    assert server.get("/health").json["status"] == "UP"


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/missing.png", 502),
        ("/elsewhere", 502),
        ("http://169.254.169.254/latest/meta-data", 403),
        ("//example.com/a.png", 403),
        ("file:///etc/passwd", 403),
        ("data:text/html;base64,AAAA", 400),
    ],
)
def test_images_come_from_the_named_address_only(server, address, status):
    reply = ask(server, address, rectangle(25, 20, 50, 60))
    assert reply.status == status, reply.error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label_config": "<View/>"}, "no Image"),
        ({"label_config": "<View"}, "no XML"),
        ({"label_config": '<!DOCTYPE a [<!ENTITY b "c">]><a/>'}, "entities"),
        ({"label_config": CONFIG.replace("BrushLabels", "Labels")}, "neither BrushLabels"),
        ({"tasks": []}, "0 tasks"),
        ({"tasks": [{"data": {}}]}, "no 'picture'"),
        ({"params": {"context": {"result": [{}]}}}, "no 'to_name'"),
    ],
)
def test_wrong_requests_get_one_clear_sentence(server, change, said):
    task = {"data": {"picture": "/a.png"}}
    params = {"context": {"result": [rectangle(1, 1, 9, 9)]}}
    request = {"tasks": [task], "label_config": CONFIG, "params": params, **change}
    reply = server.post("/predict", json.loads(json.dumps(request)))
    assert reply.status == 400
    assert said in reply.error
