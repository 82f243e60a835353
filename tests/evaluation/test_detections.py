import json

import pytest

from carsam.errors import UserError
from carsam.evaluation.coco_data import read_coco
from carsam.evaluation.detections import read_detections
from carsam.evaluation.warning_log import WarningLog

GOOD = {"image_id": 10, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.fixture
def read(coco_json, tmp_path):
    """Function that writes detections, reads them, and returns them with the warnings' names."""

    def read(document):
        path = tmp_path / "detections.json"
        path.write_text(json.dumps(document))
        log = WarningLog()
        found = read_detections(path, read_coco(coco_json()), log)
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


def test_detections_on_other_images_only_are_refused(read):
    with pytest.raises(UserError, match="has 1 detections, none on an image"):
        read([{**GOOD, "image_id": 77}])


def test_instances_json_is_refused(read):
    with pytest.raises(UserError, match="expected a list"):
        read({"images": []})


def test_missing_score_is_named(read):
    with pytest.raises(UserError, match=r"\[0\] has no 'score'"):
        read([{key: value for key, value in GOOD.items() if key != "score"}])
