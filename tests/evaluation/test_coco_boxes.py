import pytest

from carsam.errors import UserError
from carsam.evaluation.coco_boxes import read_boxes


class Warnings:
    """A reporter that keeps the names of the warnings."""

    def __init__(self):
        self.names = []

    def warn(self, message):
        self.names.append(message.split(":")[0])


@pytest.fixture
def read(coco_json, tmp_path):
    """Function that reads the boxes of a changed json -> boxes by file, warnings' names."""

    def read(change=None, folder=tmp_path, **options):
        warnings = Warnings()
        return read_boxes(coco_json(change, **options), folder, warnings), warnings.names

    return read


def test_objects_have_their_boxes_and_crowds_none(read):
    boxes, warnings = read(crowds=True)
    assert {name: len(found) for name, found in boxes.items()} == {"0.png": 5, "1.png": 5}
    assert warnings == []


@pytest.mark.parametrize(
    "segmentation",
    [None, [], [[5, 5]], [[60, 40, 61, 40, 62, 40]], {"size": [1, 1], "counts": [1]}],
)
def test_a_box_is_enough(read, segmentation):
    def change(document):
        document["annotations"][0].update(bbox=[10, 20, 30, 5.5], segmentation=segmentation)

    boxes, warnings = read(change)
    assert boxes["0.png"][0] == (10, 20, 40, 25.5)
    assert warnings == []


def test_a_mask_stands_in_for_a_missing_box(read):
    def change(document):
        square = [10, 20, 40, 20, 40, 30, 10, 30]
        document["annotations"][0].update(bbox=None, segmentation=[square])

    assert read(change)[0]["0.png"][0] == (10, 20, 40, 30)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"bbox": None, "segmentation": None}, "annotation-without-box"),
        ({"bbox": [5, 5, 0, 9]}, "zero-area-box"),
        ({"bbox": [5, 5, 9, -9]}, "zero-area-box"),
        ({"bbox": [500, 5, 9, 9]}, "box-outside-image"),
    ],
)
def test_unusable_boxes_are_left_out_by_name(read, values, name):
    boxes, warnings = read(lambda document: document["annotations"][0].update(values))
    assert len(boxes["0.png"]) == 5
    assert warnings == [name]


def test_an_image_needs_no_size(read):
    def change(document):
        for key in ("width", "height"):
            del document["images"][0][key]

    boxes, warnings = read(change)
    assert len(boxes["0.png"]) == 6
    assert warnings == []


def test_two_entries_of_one_file_share_their_boxes(read):
    def change(document):
        document["images"][1]["file_name"] = "0.png"

    assert {name: len(found) for name, found in read(change)[0].items()} == {"0.png": 12}


def test_names_are_paths_in_the_folder(read):
    def change(document):
        for image in document["images"]:
            image["file_name"] = f"images\\{image['file_name']}"

    assert set(read(change)[0]) == {"0.png", "1.png"}


def test_without_a_folder_names_are_those_of_the_json(read):
    boxes, _ = read(lambda doc: doc["images"][0].update(file_name="gone/a.png"), folder=None)
    assert set(boxes) == {"gone/a.png", "1.png"}


def test_images_that_are_not_in_the_folder_are_counted(read):
    boxes, warnings = read(lambda document: document["images"][0].update(file_name="gone.png"))
    assert set(boxes) == {"1.png"}
    assert warnings == ["missing-image"]


def test_nothing_but_crowds_is_refused_as_such(read):
    def change(document):
        for annotation in document["annotations"]:
            annotation["iscrowd"] = 1

    with pytest.raises(
        UserError,
        match=r"calibration needs prompts\. It has 12 annotations, 12 of them crowd regions",
    ):
        read(change)


def test_nothing_usable_is_refused_with_the_reasons(read):
    def change(document):
        for annotation in document["annotations"]:
            annotation.update(bbox=[1, 1, 0, 0])

    with pytest.raises(UserError, match=r"12 boxes of instances\.json have no area"):
        read(change)
