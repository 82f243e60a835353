import pytest

from carsam.errors import UserError
from carsam.evaluation import masks
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.warning_log import WarningLog

TRIANGLE = [2, 2, 60, 2, 60, 40]


@pytest.fixture
def read(coco_json):
    """Function that reads a json with a changed first annotation -> data, warnings' counts."""

    def read(remove=(), **values):
        def change(document):
            annotation = document["annotations"][0]
            annotation.update(values)
            for key in remove:
                del annotation[key]

        path = coco_json(change)
        log = WarningLog(path)
        data = read_coco(path, log)
        return data, {warning["name"]: warning["count"] for warning in log.to_json()}

    return read


def test_intact_json_has_no_warnings(read):
    data, counts = read()
    assert (len(data.images), len(data.annotations), data.category_ids) == (2, 12, (3, 5, 9))
    assert counts == {}


def test_uncompressed_runs_are_read(read):
    data, _ = read(segmentation={"size": [64, 80], "counts": [64, 64, 64 * 78]})
    mask = masks.decode(masks.annotation_rle(data.annotations[0], data.images[0]))
    assert mask[:, 1].all() and mask.sum() == 64


@pytest.mark.parametrize(
    ("segmentation", "name"),
    [
        (None, "no-mask"),
        ([], "no-mask"),
        ([[]], "unusable-mask"),
        ([[1, 2, 3, 4]], "unusable-mask"),
        ([[5, 5]], "unusable-mask"),
        ({"size": [80, 64], "counts": [80 * 64]}, "unusable-mask"),
        ([[60, 40, 61, 40, 62, 40]], "empty-mask"),
        ({"size": [64, 80], "counts": [64 * 80]}, "empty-mask"),
    ],
)
def test_annotations_without_a_mask_are_left_out_by_name(read, segmentation, name):
    data, counts = read(segmentation=segmentation)
    assert len(data.annotations) == 11
    assert counts == {name: 1}


def test_annotations_without_the_key_of_a_mask_are_left_out(read):
    data, counts = read(remove=["segmentation"])
    assert len(data.annotations) == 11
    assert counts == {"no-mask": 1}


def test_the_good_polygons_of_an_annotation_are_used(read):
    data, counts = read(segmentation=[[5, 5], TRIANGLE, [5, 5, 9, 9]])
    assert data.annotations[0].segmentation == [TRIANGLE]
    assert counts == {"partial-mask": 1}


@pytest.mark.parametrize("bbox", [None, [], [1, 2, 3], [1, 2, 3, float("nan")], "box"])
def test_an_unusable_box_is_that_of_the_mask(read, bbox):
    data, counts = read(bbox=bbox, segmentation=[[10, 20, 40, 20, 40, 30, 10, 30]])
    assert data.annotations[0].box == (10, 20, 40, 30)
    assert counts == {"box-from-mask": 1}


@pytest.mark.parametrize("area", [None, -1, "large", 10**400, float("nan")])
def test_an_unusable_area_is_that_of_the_mask(read, area):
    data, counts = read(area=area, segmentation=[[10, 20, 40, 20, 40, 30, 10, 30]])
    assert data.annotations[0].area == 300
    assert counts == {"area-from-mask": 1}


def test_a_missing_area_is_that_of_the_mask(read):
    data, _ = read(remove=["area"], segmentation=[[10, 20, 40, 20, 40, 30, 10, 30]])
    assert data.annotations[0].area == 300


def test_an_unlisted_category_is_added(read):
    data, counts = read(category_id=999)
    assert data.category_ids == (3, 5, 9, 999)
    assert counts == {"unlisted-category": 1}


@pytest.mark.parametrize("category", [None, [], {}, True])
def test_annotations_without_a_category_have_one_of_their_own(read, category):
    data, counts = read(category_id=category)
    assert data.annotations[0].category_id not in (3, 5, 9)
    assert data.annotations[0].category_id in data.category_ids
    assert counts == {"no-category": 1}


@pytest.mark.parametrize("category", ["9", 9.0, "09"])
def test_other_spellings_of_a_category_are_the_category(read, category):
    data, counts = read(category_id=category)
    assert data.annotations[0].category_id == 9
    assert counts == {}


def test_a_json_without_categories_has_those_of_the_annotations(coco_json):
    data = read_coco(coco_json(lambda document: document.pop("categories")))
    assert set(data.category_ids) == {3, 5, 9}


def test_repeated_annotation_ids_are_harmless(read):
    data, counts = read(id=2)
    assert [annotation.id for annotation in data.of_image(10)] == [2, 2, 3, 4, 5, 6]
    assert counts == {}


def test_images_of_unknown_size_are_left_out_with_their_annotations(coco_json):
    path = coco_json(lambda document: document["images"][0].pop("width"))
    log = WarningLog(path)
    data = read_coco(path, log)
    assert [image.id for image in data.images] == [11]
    assert {annotation.image_id for annotation in data.annotations} == {11}
    assert [warning["name"] for warning in log.to_json()] == ["image-without-size"]


def test_only_crowds_are_refused_as_such(coco_json):
    def crowds(document):
        for annotation in document["annotations"]:
            annotation["iscrowd"] = 1

    with pytest.raises(
        UserError,
        match=r"instances\.json holds no object .* It has 12 annotations, 12 of them crowd",
    ):
        read_coco(coco_json(crowds))


def test_only_boxes_are_refused_with_their_number(coco_json):
    def boxes(document):
        for annotation in document["annotations"]:
            annotation["segmentation"] = []
        document["annotations"][0]["segmentation"] = [[5, 5]]

    with pytest.raises(UserError) as error:
        read_coco(coco_json(boxes))
    assert "It has 12 annotations. 1 annotations" in str(error.value)
    assert "11 annotations of instances.json have no segmentation" in str(error.value)
    assert "1 annotations of instances.json have a segmentation that cannot be drawn" in str(
        error.value
    )


def test_no_annotations_are_refused(coco_json):
    with pytest.raises(UserError, match="It has 0 annotations"):
        read_coco(coco_json(lambda document: document.update(annotations=[])))
