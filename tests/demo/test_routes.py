"""Whatever is asked of the page's server: its own files, answers in JSON, and nothing else."""

import base64
import json
import re

import pytest
from fuzzing import anything, changed, check, few, places
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import photo_file, serving

from carsam.cli import main

FILE = photo_file(1, "jpeg")
URI = f"data:image/jpeg;base64,{base64.b64encode(FILE).decode()}"
KEY_OF_ANOTHER = "ab" * 32
VALID = {
    "/model/api/images": {"image": URI},
    "/model/api/predict": {"image": URI, "boxes": [[9, 9, 60, 60]], "multimask": False},
    "/model/api/everything": {"image": URI, "points_per_side": 1, "iou": 0.2, "stability": 0.2},
}
each_route = pytest.mark.parametrize("path", VALID)
FILES = {
    "/": "text/html; charset=utf-8",
    "/main.js": "text/javascript; charset=utf-8",
    "/style.css": "text/css; charset=utf-8",
    "/icon.svg": "image/svg+xml",
}


@pytest.mark.parametrize("path", FILES)
def test_files_have_their_type_and_a_strict_policy(server, path):
    reply = server.get(path)
    assert reply.status == 200
    headers = {name.lower(): value for name, value in reply.headers.items()}
    assert headers["content-type"] == FILES[path]
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_page_has_no_script_or_style_within(server):
    page = server.get("/").body.decode()
    assert "style=" not in page
    assert not re.search(r"\son\w+=", page)
    assert page.count("<script") == page.count('<script type="module" src="/main.js"></script>')


def test_what_it_says_of_the_model(server):
    about = server.get("/about").json
    (model,) = about["models"]
    assert (model["name"], model["bits"], model["prefix"]) == ("sam-mini-w4a4", "4 bits", "/model")
    assert 3e6 < model["bytes"] < 5e6
    assert about["upload_bytes"] == 1_000_000


def test_photos_to_begin_with_are_those_that_are_installed(server):
    for sample in server.get("/about").json["samples"]:
        reply = server.get(f"/samples/{sample['file']}")
        assert reply.status == 200
        assert server.post("/model/api/images", reply.body).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/..%2fapp.py",
        "/../app.py",
        "/static/main.js",
        "/samples/",
        "/samples/..%2f..%2f..%2fetc%2fpasswd",
        "/samples/../../../etc/passwd",
        "/%00",
        "/main.js%00",
        "//etc/passwd",
        "/index.html",
        f"/model/api/images/{KEY_OF_ANOTHER}",
        "/metrics",
    ],
)
def test_paths_lead_nowhere(server, path):
    reply = server.get(path)
    assert reply.status in (404, 405)
    check(reply)


@pytest.mark.parametrize("path", ["/against/api/predict", "/other/api/predict", "/api/predict"])
def test_a_model_that_is_not_there(server, path):
    assert server.post(path, {"image": KEY_OF_ANOTHER}).status == 404


@pytest.mark.parametrize(
    ("key", "status"),
    [(KEY_OF_ANOTHER, 404), (KEY_OF_ANOTHER.upper(), 400), (KEY_OF_ANOTHER[:8], 400), ("*", 400)],
)
def test_an_image_of_another_user_cannot_be_guessed(server, key, status):
    reply = server.post("/model/api/predict", {"image": key, "boxes": [[1, 1, 9, 9]]})
    assert reply.status == status
    check(reply)


@each_route
def test_the_valid_request_is_answered_and_may_not_be_kept(server, path):
    reply = server.post(path, VALID[path])
    assert reply.status == 200
    assert {name.lower(): value for name, value in reply.headers.items()}[
        "cache-control"
    ] == "no-store"


@each_route
@settings(few, max_examples=10)
@given(st.data())
def test_wrong_types_anywhere(server, path, data):
    place = data.draw(st.sampled_from([*places(VALID[path])]))
    request = changed(VALID[path], place, data.draw(anything))
    check(
        server.ask("POST", path, json.dumps(request).encode(), {"Content-Type": "application/json"})
    )


@each_route
@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null"])
def test_what_is_no_json(server, path, body):
    reply = server.ask("POST", path, body, {"Content-Type": "application/json"})
    assert reply.status == 400
    check(reply)


@settings(few, max_examples=15)
@given(st.integers(0, len(FILE) - 1), st.binary(min_size=1, max_size=9), st.booleans())
def test_damaged_images(server, place, replacement, cut):
    rest = b"" if cut else FILE[place + len(replacement) :]
    check(server.post("/model/api/images", FILE[:place] + replacement + rest))


@pytest.mark.parametrize("path", ["/", "/main.js", "/about"])
def test_files_take_no_content(server, path):
    assert server.post(path, b"content").status == 405


def test_names_of_other_hosts_are_refused(server):
    assert server.get("/", Host="example.com").status == 421


def test_a_token_is_asked_for_as_browsers_can():
    with serving(command="demo", CARSAM_TOKEN="a secret") as server:
        reply = server.get("/")
        assert reply.status == 401
        headers = {name.lower(): value for name, value in reply.headers.items()}
        assert headers["www-authenticate"].startswith("Basic ")
        given = base64.b64encode(b"me:a secret").decode()
        assert server.get("/", Authorization=f"Basic {given}").status == 200


def test_a_model_that_is_nowhere_is_refused_before_anything_is_served(capsys):
    assert main(["demo", "sam-mini-w4a4", "--against", "no/where/at/all", "--port", "0"]) == 2
    assert "no/where" in capsys.readouterr().err
