import json

import pytest

from carsam.errors import UserError
from carsam.evaluation.coco_data import CocoImage
from carsam.evaluation.coco_entries import read_entries
from carsam.evaluation.warning_log import WarningLog


@pytest.fixture
def read(coco_json):
    """Function that reads the entries of a changed json: (change) -> entries, warnings' counts."""

    def read(change):
        path = coco_json(change)
        log = WarningLog(path)
        found = read_entries(path, log)
        return found, {warning["name"]: warning["count"] for warning in log.to_json()}

    return read


def first_annotation(**values):
    return lambda document: document["annotations"][0].update(values)


def first_image(**values):
    return lambda document: document["images"][0].update(values)


def test_images_are_in_order_of_file_name(read):
    found, _ = read(lambda document: document["images"].reverse())
    assert [image.file_name for image in found.images] == ["0.png", "1.png"]


def test_an_address_stands_in_for_a_missing_file_name(read):
    address = "http://images.cocodataset.org/train2017/7.jpg"
    found, _ = read(lambda document: document["images"].append({"id": 7, "coco_url": address}))
    assert address in [image.file_name for image in found.images]


@pytest.mark.parametrize("size", [80.0, "80", "80.0"])
def test_sizes_may_be_floats_or_text(read, size):
    found, counts = read(first_image(width=size))
    assert found.images[0] == CocoImage(10, "0.png", 80, 64)
    assert counts == {}


@pytest.mark.parametrize("size", [None, 0, -80, 80.5, "wide", [80], True, 10**9, float("nan")])
def test_other_sizes_are_unknown(read, size):
    found, _ = read(first_image(width=size))
    assert found.images[0] == CocoImage(10, "0.png", 0, 0)


def test_an_image_of_more_pixels_than_memory_has_no_size(read):
    found, _ = read(first_image(width=60_000, height=60_000))
    assert found.images[0].width == 0


@pytest.mark.parametrize(
    "entry",
    [None, 3, [], {}, {"id": 5}, {"file_name": "0.png"}, {"id": 5, "file_name": 3}],
)
def test_entries_that_are_no_image_are_counted(read, entry):
    found, counts = read(lambda document: document["images"].append(entry))
    assert len(found.images) == 2
    assert counts == {"image-entry": 1}


def test_an_image_listed_twice_is_one_image(read):
    found, counts = read(lambda document: document["images"].append(document["images"][0]))
    assert len(found.images) == 2
    assert counts == {"repeated-image": 1}


def test_an_id_of_two_files_is_refused_and_both_are_named(read):
    with pytest.raises(
        UserError, match=r"instances\.json gives the same id.*10: 0\.png and 1\.png"
    ):
        read(lambda document: document["images"][1].update(id=10))


@pytest.mark.parametrize("entry", [None, 3, "annotation", []])
def test_entries_that_are_no_annotation_are_counted(read, entry):
    found, counts = read(lambda document: document["annotations"].append(entry))
    assert len(found.entries) == 12
    assert counts == {"annotation-entry": 1}


@pytest.mark.parametrize("image_id", [999, None, "x", [10], float("nan"), {}])
def test_annotations_without_their_image_are_counted(read, image_id):
    found, counts = read(first_annotation(image_id=image_id))
    assert len(found.entries) == 11
    assert counts == {"annotation-without-image": 1}


@pytest.mark.parametrize("image_id", [10.0, "10", "000010"])
def test_annotations_find_their_image_by_other_spellings(read, image_id):
    found, counts = read(first_annotation(image_id=image_id))
    assert found.entries[0].image.id == 10
    assert counts == {}


def test_annotations_without_an_id_have_their_place(read):
    found, counts = read(lambda document: document["annotations"][3].pop("id"))
    assert found.entries[3].id == "annotations[3]"
    assert counts == {}


@pytest.mark.parametrize("value", [1, 1.0, True, "1"])
def test_crowds_may_be_written_otherwise(read, value):
    found, counts = read(first_annotation(iscrowd=value))
    assert found.entries[0].crowd
    assert counts == {}


@pytest.mark.parametrize("value", [0, 0.0, False, None, "0"])
def test_objects_may_be_written_otherwise(read, value):
    found, counts = read(first_annotation(iscrowd=value))
    assert not found.entries[0].crowd
    assert counts == {}


@pytest.mark.parametrize("value", [2, -1, 0.5, "yes", [], {}])
def test_unclear_crowds_are_objects_and_counted(read, value):
    found, counts = read(first_annotation(iscrowd=value))
    assert not found.entries[0].crowd
    assert counts == {"unclear-crowd": 1}


@pytest.mark.parametrize("area", [None, -1, "large", float("nan"), [5]])
def test_unusable_areas_are_unknown(read, area):
    assert read(first_annotation(area=area))[0].entries[0].area is None


@pytest.mark.parametrize("values", [None, [], {}, [None, 3, {"id": None}, {"name": "x"}], "none"])
def test_categories_may_be_missing(read, values):
    assert read(lambda document: document.update(categories=values))[0].categories == ()


def test_repeated_categories_are_one(read):
    found, _ = read(lambda document: document["categories"].append({"id": 3}))
    assert found.categories == (3, 5, 9)


@pytest.mark.parametrize("key", ["images", "annotations"])
@pytest.mark.parametrize("value", [None, {}, 7, "x"])
def test_missing_lists_are_named(read, key, value):
    with pytest.raises(UserError, match=f"no list '{key}'"):
        read(lambda document: document.update({key: value}))


def test_a_json_without_a_usable_image_is_refused_with_the_reasons(read):
    with pytest.raises(UserError, match=r"lists 1 images, none of them usable\. 1 images of inst"):
        read(lambda document: document.update(images=[{"id": 1}]))


@pytest.mark.parametrize("document", [[{"image_id": 1}], None, 3, "x", []])
def test_other_json_is_refused(tmp_path, document):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"results\.json holds .*expected an object: a COCO inst"):
        read_entries(path, WarningLog(path))
