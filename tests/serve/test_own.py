"""The server's own interface: the same masks as in Python, whoever asks at the same time."""

import base64
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from serving import photo_file

import carsam
from carsam.images.run_lengths import RunLengths

BOX = [20.0, 15.0, 75.0, 70.0]


@pytest.fixture(scope="module")
def predictor(engine):
    predictor = carsam.SamPredictor(engine)
    predictor.set_image(Image.open(BytesIO(photo_file(1))))
    return predictor


@pytest.fixture(scope="module")
def key(server):
    return server.post("/api/images", photo_file(1)).json["image"]


@pytest.mark.parametrize(
    "prompt",
    [
        {},
        {"boxes": [BOX, [1, 2, 100, 80]]},
        {"points": [[[40.0, 40.0], [5, 5]]], "labels": [[1, 0]], "multimask": True},
        {"boxes": [BOX], "points": [[[40.0, 40.0]]], "labels": [[1]]},
    ],
    ids=["none", "boxes", "points", "both"],
)
def test_masks_are_those_of_the_predictor(server, key, predictor, prompt):
    reply = server.post("/api/predict", {"image": key, **prompt}).json
    masks, ious, _ = predictor.predict_batch(
        prompt.get("boxes"),
        prompt.get("points"),
        prompt.get("labels"),
        multimask_output=prompt.get("multimask", False),
    )
    assert (reply["height"], reply["width"]) == masks.shape[-2:]
    for found, mask, scores in zip(reply["masks"], masks, ious, strict=True):
        assert [each["segmentation"] for each in found] == [compressed(each) for each in mask]
        np.testing.assert_array_equal([each["predicted_iou"] for each in found], scores)
        for each, pixels in zip(found, mask, strict=True):
            assert each["area"] == pixels.sum()
            rows, columns = np.nonzero(pixels) if pixels.any() else ([0], [0])
            x, y, width, height = each["bbox"]
            assert (x, y) == (np.min(columns), np.min(rows))
            ends = (np.max(columns) + 1, np.max(rows) + 1) if pixels.any() else (0, 0)
            assert (x + width, y + height) == ends


def test_everything_is_what_the_generator_finds(server, key, engine):
    thresholds = {"iou": 0.3, "stability": 0.3}
    reply = server.post("/api/everything", {"image": key, "points_per_side": 3, **thresholds}).json
    generator = carsam.SamAutomaticMaskGenerator(
        engine, 3, pred_iou_thresh=0.3, stability_score_thresh=0.3, output_mode="coco_rle"
    )
    expected = generator.generate(Image.open(BytesIO(photo_file(1))))
    assert expected
    assert reply["masks"] == expected


def test_an_empty_result_says_why(server, key):
    reply = server.post("/api/everything", {"image": key, "points_per_side": 1, "iou": 99}).json
    assert reply["masks"] == []
    assert "Found no mask" in reply["warnings"][0]


def test_an_image_is_found_again_by_its_content(server, key):
    assert key == hashlib.sha256(photo_file(1)).hexdigest()
    assert server.get(f"/api/images/{key}").json["width"] == 120
    unknown = server.post("/api/predict", {"image": "0" * 64})
    assert unknown.status == 404
    assert "send its file" in unknown.error


def test_a_data_uri_is_the_same_image(server, key):
    uri = f"data:image/png;base64,{base64.b64encode(photo_file(1)).decode()}"
    assert server.post("/api/images", {"image": uri}).json["image"] == key
    assert server.post("/api/predict", {"image": uri, "boxes": [BOX]}).json["image"] == key


def test_clients_at_the_same_time_get_the_masks_of_their_own_images(server, engine):
    seeds = range(2, 6)
    expected = {}
    for seed in seeds:
        predictor = carsam.SamPredictor(engine)
        predictor.set_image(Image.open(BytesIO(photo_file(seed))))
        expected[seed] = compressed(predictor.predict(box=BOX, multimask_output=False)[0][0])
    assert len({rle["counts"] for rle in expected.values()}) == len(expected)

    def ask(seed):
        key = server.post("/api/images", photo_file(seed)).json["image"]
        reply = server.post("/api/predict", {"image": key, "boxes": [BOX]})
        return reply.json["masks"][0][0]["segmentation"]

    wanted = [*seeds] * 2
    before = computed(server)
    with ThreadPoolExecutor(len(wanted)) as clients:
        found = [*clients.map(ask, wanted)]
    assert found == [expected[seed] for seed in wanted]
    assert computed(server) - before == len(seeds)


def compressed(mask) -> dict:
    return RunLengths.of_mask(mask).compressed()


def computed(server) -> int:
    """Return how many images the server has encoded."""
    (line,) = re.findall(
        r"^carsam_embeddings_computed_total (\d+)$", server.get("/metrics").body.decode(), re.M
    )
    return int(line)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "no 'image'"),
        ({"image": 5}, "Found 5 for 'image'; expected a text"),
        ({"image": "../../etc/passwd"}, "SHA-256"),
        ({"image": "KEY", "box": BOX}, "Found a field 'box'"),
        ({"image": "KEY", "boxes": "all"}, "expected a list"),
        ({"image": "KEY", "boxes": [[5, 5, 1, 1]]}, "second corner"),
        ({"image": "KEY", "boxes": [BOX] * 257}, "at most 256"),
        ({"image": "KEY", "points": [[[9, 9]] * 65], "labels": [[1] * 65]}, "at most 64"),
        ({"image": "KEY", "points": [[[9, 9]]]}, "without labels"),
        ({"image": "KEY", "multimask": "yes"}, "true or false"),
    ],
)
def test_wrong_requests_get_one_clear_sentence(server, key, request_, said):
    if request_.get("image") == "KEY":
        request_ = {**request_, "image": key}
    reply = server.post("/api/predict", request_)
    assert reply.status == 400
    assert said in reply.error


@pytest.mark.parametrize("address", ["/etc/passwd", "file:///etc/passwd", "http://localhost:1/a"])
def test_nothing_is_opened_or_fetched(server, address):
    reply = server.post("/api/images", {"image": address})
    assert reply.status == 403
    assert "from nowhere" in reply.error
