import json

import numpy as np

from carsam.calibration.prompts import annotated_boxes


def test_annotated_boxes_are_corners_by_path_in_the_folder(tmp_path, image_folder):
    path = tmp_path / "boxes.json"
    image = {"id": "a", "file_name": "photos\\1.jpg"}
    annotation = {"image_id": "a", "bbox": [10, 20, 30, 40]}
    path.write_text(json.dumps({"images": [image], "annotations": [annotation] * 2}))
    boxes = annotated_boxes(path, image_folder)
    assert list(boxes) == ["1.jpg"]
    np.testing.assert_array_equal(boxes["1.jpg"], [[10, 20, 40, 60]] * 2)
