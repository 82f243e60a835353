import json

import pytest

from carsam.errors import UserError
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.detections import Detection, read_detections
from carsam.evaluation.warning_log import WarningLog

GOOD = {"image_id": 10, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.fixture
def read(coco_json, tmp_path):
    """Function that writes detections, reads them, and returns them with the warnings' names."""

    def read(document):
        path = tmp_path / "detections.json"
        path.write_text(json.dumps(document))
        json_path = coco_json()
        log = WarningLog(json_path, path)
        found = read_detections(path, read_coco(json_path), log)
        return found, [warning["name"] for warning in log.to_json()]

    return read


def test_detections_are_grouped_by_image(read):
    found, _ = read([GOOD, {**GOOD, "image_id": 11}, GOOD])
    assert {image: [item.index for item in items] for image, items in found.items()} == {
        10: [0, 2],
        11: [1],
    }


def test_boxes_become_corners(read):
    found, _ = read([GOOD])
    assert found[10][0].box == (1, 2, 4, 6)


def test_unknown_image_is_left_out_with_a_warning(read):
    found, warnings = read([GOOD, {**GOOD, "image_id": 77}])
    assert list(found) == [10]
    assert warnings == ["detection-without-image"]


def test_unknown_category_is_left_out_with_a_warning(read):
    found, warnings = read([GOOD, {**GOOD, "category_id": 77}])
    assert len(found[10]) == 1
    assert warnings == ["detection-without-category"]


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": None},
        {"category_id": None},
        {"category_id": [5]},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, float("nan")]},
        {"score": None},
        {"score": float("nan")},
        {"score": "high"},
    ],
)
def test_detections_that_cannot_be_read_are_left_out_with_a_warning(read, change):
    found, warnings = read([GOOD, {**GOOD, **change}])
    assert len(found[10]) == 1
    assert warnings == ["detection-entry"]


@pytest.mark.parametrize("entry", [None, 3, [], {}, "x"])
def test_entries_that_are_no_detection_are_left_out_with_a_warning(read, entry):
    found, warnings = read([entry, GOOD])
    assert [detection.index for detection in found[10]] == [1]
    assert warnings == ["detection-entry"]


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": "10", "category_id": "5"},
        {"image_id": "000010", "category_id": "05"},
        {"image_id": 10.0, "category_id": 5.0},
        {"bbox": ["1", "2", "3", "4"], "score": "0.5"},
    ],
)
def test_values_may_be_written_otherwise(read, change):
    found, warnings = read([{**GOOD, **change}])
    assert found == {10: [Detection(0, 10, 5, (1, 2, 4, 6), 0.5)]}
    assert warnings == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, r"1 detections of .* are on images that instances\.json lacks"),
        ({"category_id": 0}, r"1 detections of .* have a category that instances\.json lacks"),
        ({"score": None}, r"1 detections of .* lack an image, a category, a box or a score"),
    ],
)
def test_without_a_usable_detection_the_fault_is_named(read, change, message):
    with pytest.raises(UserError, match=f"detections.json has 1 detections, none .*{message}"):
        read([{**GOOD, **change}])


def test_without_a_usable_detection_the_ids_of_both_files_are_shown(read):
    with pytest.raises(
        UserError,
        match=r"images 10 and the categories 0; instances\.json has the images 10, 11 and the "
        r"categories 3, 5, 9",
    ):
        read([{**GOOD, "category_id": 0}])


def test_an_empty_list_is_refused(read):
    with pytest.raises(UserError, match="has 0 detections"):
        read([])


def test_instances_json_is_refused_as_such(read):
    with pytest.raises(UserError, match=r"expected a list.*is the COCO json itself"):
        read({"images": []})


def test_detections_need_no_category_where_the_json_has_none(coco_json, tmp_path):
    def change(document):
        for annotation in document["annotations"]:
            del annotation["category_id"]

    path = tmp_path / "detections.json"
    path.write_text(json.dumps([{"image_id": 10, "bbox": [1, 2, 3, 4], "score": 0.5}]))
    data = read_coco(coco_json(change))
    (detection,) = read_detections(path, data, WarningLog())[10]
    assert detection.category_id == data.annotations[0].category_id
