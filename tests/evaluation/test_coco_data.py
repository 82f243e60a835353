import json

import pytest

from carsam.errors import UserError
from carsam.evaluation import masks
from carsam.evaluation.coco_data import read_coco


def change_annotation(**values):
    """Return a change of the first annotation; a value of None removes the key."""

    def change(document):
        annotation = document["annotations"][0]
        annotation.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del annotation[key]

    return change


def test_boxes_become_corners(coco_json):
    path = coco_json(change_annotation(bbox=[10, 20, 30, 5.5]))
    assert read_coco(path).annotations[0].box == (10, 20, 40, 25.5)


@pytest.mark.parametrize(("area", "size"), [(1023, "small"), (1024, "medium"), (9216, "large")])
def test_size_goes_by_area(coco_json, area, size):
    assert read_coco(coco_json(change_annotation(area=area))).annotations[0].size == size


def test_images_are_in_order_of_id(coco_json):
    data = read_coco(coco_json(lambda document: document["images"].reverse(), images=3))
    assert [image.id for image in data.images] == [10, 11, 12]


def test_hash_ignores_the_order_of_the_json(coco_json):
    expected = read_coco(coco_json()).ids_sha256()
    assert read_coco(coco_json(lambda doc: doc["annotations"].reverse())).ids_sha256() == expected


def test_hash_changes_with_the_images(coco_json):
    data = read_coco(coco_json())
    assert data.restricted({10}).ids_sha256() != data.ids_sha256()


def test_restriction_drops_the_other_images_annotations(coco_json):
    data = read_coco(coco_json()).restricted({11})
    assert {annotation.image_id for annotation in data.annotations} == {11}


def test_uncompressed_runs_are_read(coco_json):
    runs = {"size": [64, 80], "counts": [64, 64, 64 * 78]}
    data = read_coco(coco_json(change_annotation(segmentation=runs)))
    mask = masks.decode(masks.annotation_rle(data.annotations[0], data.images[0]))
    assert mask[:, 1].all() and mask.sum() == 64


def test_malformed_json_names_line_and_column(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text('{"images":\n[1 2]}')
    with pytest.raises(UserError, match="line 2, column 4"):
        read_coco(path)


def test_binary_file_is_refused(tmp_path):
    path = tmp_path / "picture.json"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        read_coco(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_coco(tmp_path / "nothing.json")


def test_detector_results_are_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": 1}]))
    with pytest.raises(UserError, match="expected an object: a COCO instances json"):
        read_coco(path)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_lists_are_named(coco_json, key):
    with pytest.raises(UserError, match=f"no list '{key}'"):
        read_coco(coco_json(lambda document: document.pop(key)))


@pytest.mark.parametrize("key", ["id", "image_id", "category_id", "bbox", "area"])
def test_missing_keys_are_named(coco_json, key):
    with pytest.raises(UserError, match=rf"annotations\[0\] has no '{key}'"):
        read_coco(coco_json(change_annotation(**{key: None})))


@pytest.mark.parametrize(
    "values",
    [
        {"id": "7"},
        {"id": True},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, float("nan")]},
        {"area": "large"},
        {"area": 10**400},
        {"area": -1},
        {"iscrowd": 2},
    ],
)
def test_wrong_values_are_refused(coco_json, values):
    with pytest.raises(
        UserError, match=rf"annotations\[0\] has '{next(iter(values))}' = .*expected"
    ):
        read_coco(coco_json(change_annotation(**values)))


def test_entries_that_are_no_objects_are_refused(coco_json):
    with pytest.raises(UserError, match=r"images\[2\] is int"):
        read_coco(coco_json(lambda document: document["images"].append(3)))


def test_annotation_without_image_is_refused_by_id(coco_json):
    with pytest.raises(UserError, match=r"1 annotations without their image \(annotation ids 1\)"):
        read_coco(coco_json(change_annotation(image_id=999)))


def test_annotation_without_category_is_refused_by_id(coco_json):
    with pytest.raises(UserError, match=r"without their category \(annotation ids 1\)"):
        read_coco(coco_json(change_annotation(category_id=999)))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_repeated_ids_are_refused(coco_json, key):
    with pytest.raises(UserError, match="ids more than once"):
        read_coco(coco_json(lambda document: document[key].append(document[key][0])))


def test_images_without_pixels_are_refused(coco_json):
    with pytest.raises(UserError, match="0 x 64"):
        read_coco(coco_json(lambda document: document["images"][0].update(width=0)))


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [["a"] * 6],
        [[0, 0, 1e9, 0, 0, 1e9]],
        {"size": [64, 80], "counts": [1, 2]},
        {"size": [64, 80], "counts": "?"},
        {"size": [64, 80], "counts": 5},
        {"size": [80, 64], "counts": [80 * 64]},
    ],
)
def test_segmentations_that_are_no_masks_are_refused(coco_json, segmentation):
    with pytest.raises(UserError, match="Annotation 1 has segmentation"):
        read_coco(coco_json(change_annotation(segmentation=segmentation)))
