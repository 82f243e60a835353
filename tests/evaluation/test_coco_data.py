import pytest

from carsam.evaluation.coco_data import Annotation, CocoData, CocoImage
from carsam.evaluation.coco_reading import read_coco


@pytest.mark.parametrize(("area", "size"), [(1023, "small"), (1024, "medium"), (9216, "large")])
def test_size_goes_by_area(area, size):
    assert Annotation(1, 1, 1, (0, 0, 1, 1), area, False, []).size == size


def test_hash_ignores_the_order_of_the_json(coco_json):
    expected = read_coco(coco_json()).ids_sha256()
    assert read_coco(coco_json(lambda doc: doc["annotations"].reverse())).ids_sha256() == expected


def test_hash_changes_with_the_images(coco_json):
    data = read_coco(coco_json())
    assert data.restricted({10}).ids_sha256() != data.ids_sha256()


def test_hash_takes_numbers_and_text():
    images = tuple(CocoImage(identity, "", 1, 1) for identity in ("b", 2, "a", 10))
    assert CocoData(images, (), ()).ids_sha256() == CocoData(images[::-1], (), ()).ids_sha256()


def test_restriction_drops_the_other_images_annotations(coco_json):
    data = read_coco(coco_json()).restricted({11})
    assert {annotation.image_id for annotation in data.annotations} == {11}
