import numpy as np
import pytest

from carsam.evaluation import masks
from carsam.evaluation.coco_reading import read_coco


def test_encoding_and_decoding_return_the_mask():
    mask = np.random.default_rng(0).random((7, 11)) < 0.4
    assert np.array_equal(masks.decode(masks.encode(mask)), mask)


def test_iou_counts_pixels():
    first, second = np.zeros((2, 10, 10), bool)
    first[:, :4] = True
    second[:, 2:6] = True
    assert masks.iou(masks.encode(first), masks.encode(second)) == pytest.approx(20 / 60)


def test_empty_masks_agree_with_each_other_only():
    empty, full = masks.encode(np.zeros((4, 4), bool)), masks.encode(np.ones((4, 4), bool))
    assert masks.iou(empty, empty) == 1
    assert masks.iou(empty, full) == 0


@pytest.mark.coco
def test_annotations_decode_as_pycocotools_does(coco_data):
    coco = pytest.importorskip("pycocotools.coco")
    path = coco_data / "annotations" / "val_dev.json"
    data, reference = read_coco(path), coco.COCO(path)
    for image in data.images:
        for annotation in data.of_image(image.id):
            mask = masks.decode(masks.annotation_rle(annotation, image))
            assert np.array_equal(mask, reference.annToMask(reference.anns[annotation.id]))
