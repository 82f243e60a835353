"""Boxes are found by id or by name, whatever source the images come from."""

import json

import pytest

from carsam.annotation.items import Item
from carsam.annotation.prompting.box_table import read_box_table
from carsam.errors import UserError
from carsam.progress import Silent

IMAGES = [
    {"id": 139, "file_name": "val/000000000139.jpg"},
    {"id": 7, "file_name": "val\\b.jpg"},
    {"id": 8, "file_name": "train/b.jpg"},
]


@pytest.fixture
def table(tmp_path):
    """Function that writes a json and returns the table of its boxes."""

    def table(document):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(document))
        return read_box_table(path, Silent())

    return table


def coco(**more):
    annotations = [
        {"id": 10 + index, "image_id": image["id"], "category_id": 3, "bbox": [1, 2, 3, 4]}
        for index, image in enumerate(IMAGES)
    ]
    categories = [{"id": 3, "name": "cat"}]
    return {"images": IMAGES, "annotations": annotations, "categories": categories, **more}


@pytest.mark.parametrize(
    ("item", "image_id"),
    [
        (Item("val/000000000139.jpg", None, 1), 139),
        (Item("000000000139.jpg", None, 1), 139),
        (Item("other/000000000139.jpg", None, 1), 139),
        (Item("000000000139.png", None, 1), None),
        (Item("val/b.jpg", None, 1), 7),
        (Item("train/b.jpg", None, 1), 8),
        (Item("b.jpg", None, 1), None),
        (Item("b.jpg", 8, 1), 8),
        (Item("c.jpg", 8, 1), None),
        (Item("rows.parquet#3", 8, 3, named=False), 8),
        (Item("rows.parquet#3", None, 3, named=False), None),
    ],
)
def test_a_coco_json_finds_images_by_path_and_name(table, item, image_id):
    found = table(coco()).find(item)
    assert (found and found.image_id) == image_id


@pytest.mark.parametrize(
    ("item", "image_id"),
    [
        (Item("val/000000000139.jpg", None, 1), 139),
        (Item("anything.jpg", 139, 1), 139),
        (Item("c/d.jpg", None, 1), "d.jpg"),
        (Item("140.jpg", None, 1), None),
    ],
)
def test_detections_find_images_by_id_and_by_a_name_that_is_one(table, item, image_id):
    detections = [{"image_id": 139, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 3}]
    detections.append({"image_id": "d.jpg", "bbox": [1, 2, 3, 4]})
    found = table(detections).find(item)
    assert (found and found.image_id) == image_id


def test_boxes_are_corners_with_what_is_known_of_them(table):
    detections = [{"image_id": 139, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 3}]
    (box,) = table(detections).find(Item("", 139, 1)).boxes
    assert (box.id, box.box, box.category_id, box.detection_score) == (0, (1, 2, 4, 6), 3, 0.5)
    known = table(coco())
    (box,) = known.find(Item("000000000139.jpg", 139, 1)).boxes
    assert (box.id, box.box, box.category_id, box.detection_score) == (10, (1, 2, 4, 6), 3, None)
    assert known.categories == {3: "cat"}


def test_crowds_and_annotations_without_a_box_are_not_prompted(table):
    document = coco()
    document["annotations"][0]["iscrowd"] = 1
    del document["annotations"][1]["bbox"]
    with pytest.warns(UserWarning, match="1 annotations of boxes.json have no usable bbox"):
        found = table(document)
    counts = [len(found.find(Item("", image["id"], 1, named=False)).boxes) for image in IMAGES]
    assert counts == [0, 0, 1]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (coco(annotations=[]), "has no box to prompt with"),
        ([], "lists 0 detections, none of them usable"),
        ([{"image_id": 1, "bbox": [1, 2]}, 5], "lists 2 detections, none of them usable"),
        ({"boxes": []}, "has no list 'images'"),
        (3, "holds int, expected an object"),
    ],
)
def test_a_json_without_boxes_is_refused(table, document, message):
    with pytest.raises(UserError, match=message):
        table(document)


def test_detections_that_cannot_be_read_are_counted(table):
    detections = [{"image_id": 1, "bbox": [1, 2, 3, 4]}, {"image_id": 1}, None]
    with pytest.warns(UserWarning, match=r"2 detections of .*boxes\.json have no image_id or no"):
        assert len(table(detections)) == 1
