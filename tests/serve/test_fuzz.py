"""Whatever is sent, the answer is JSON that says what is wrong, and the server goes on."""

import base64
import json
import socket

import pytest
from fuzzing import anything, changed, check, few, places
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import photo_file

FILE = photo_file(1, "jpeg")
URI = f"data:image/jpeg;base64,{base64.b64encode(FILE).decode()}"
CONFIG = '<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i"/></View>'
REGION = {
    "type": "rectanglelabels",
    "to_name": "i",
    "value": {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["a"]},
}
VALID = {
    "/api/images": {"image": URI},
    "/api/predict": {
        "image": URI,
        "boxes": [[9, 9, 60, 60]],
        "points": [[[20, 20]]],
        "labels": [[1]],
        "multimask": True,
    },
    "/api/everything": {
        "image": URI,
        "points_per_side": 1,
        "iou": 0.2,
        "stability": 0.2,
        "min_area": 3,
    },
    "/predict": {
        "tasks": [{"data": {"i": URI}}],
        "label_config": CONFIG,
        "params": {"context": {"result": [REGION]}},
    },
    "/setup": {"project": "1.2", "schema": CONFIG},
    "/v1/predict": {
        "model": "carsam",
        "image": URI,
        "params": {"epsilon_factor": 0.001, "marks": [{"type": "point", "data": [20, 20]}]},
    },
}
each_route = pytest.mark.parametrize("path", VALID)


@each_route
def test_the_valid_request_is_answered(server, path):
    assert server.post(path, VALID[path]).status == 200


@each_route
@few
@given(st.data())
def test_wrong_types_anywhere(server, path, data):
    place = data.draw(st.sampled_from([*places(VALID[path])]))
    request = changed(VALID[path], place, data.draw(anything))
    check(
        server.ask("POST", path, json.dumps(request).encode(), {"Content-Type": "application/json"})
    )


@each_route
@few
@given(st.data())
def test_missing_fields(server, path, data):
    # Without points_per_side a thousand points would be asked.
    found = [p for p in places(VALID[path]) if p and p != ("points_per_side",)]
    place = data.draw(st.sampled_from(found))
    holder = VALID[path]
    for key in place[:-1]:
        holder = holder[key]
    rest = holder.copy()
    del rest[place[-1]]
    check(server.post(path, changed(VALID[path], place[:-1], rest)))


@each_route
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"image": ' + b"9" * 5000 + b"}", b"null"]
)
def test_what_is_no_json(server, path, body):
    reply = server.ask("POST", path, body, {"Content-Type": "application/json"})
    assert reply.status == 400
    check(reply)


@settings(few, max_examples=20)
@given(st.integers(0, len(FILE) - 1), st.binary(min_size=1, max_size=9), st.booleans())
def test_damaged_images(server, place, replacement, cut):
    rest = b"" if cut else FILE[place + len(replacement) :]
    check(server.post("/api/images", FILE[:place] + replacement + rest))


@few
@given(st.binary(max_size=60))
def test_bytes_that_are_no_image(server, content):
    check(server.post("/api/images", content))


@pytest.mark.parametrize(
    "path",
    [
        "/api/images/..%2f..%2fetc%2fpasswd",
        "/api/images/%00",
        "/../../etc/passwd",
        "/v1/models/%ff/info",
    ],
)
def test_paths_lead_nowhere(server, path):
    reply = server.get(path)
    assert reply.status in (400, 404)
    assert b"root:" not in reply.body
    check(reply)


@few
@given(st.binary(max_size=80))
def test_what_is_no_http_and_closed_connections(server, content):
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(content)
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n" + content)
    assert server.get("/health").status == 200
