"""Procedural scenes: repeatable, with exact and disjoint masks, readable as COCO."""

import numpy as np
import pytest
from PIL import Image

from carsam.images.scenes import SMALLEST_AREA, scene, write_scenes


def test_the_same_seed_gives_the_same_scene():
    first, second = scene(3, 128), scene(3, 128)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.masks, second.masks)


def test_another_seed_gives_another_scene():
    assert not np.array_equal(scene(3, 128).image, scene(4, 128).image)


@pytest.mark.parametrize("size", [96, 256])
def test_shapes_and_types(size):
    drawn = scene(0, size)
    assert drawn.image.shape == (size, size, 3)
    assert drawn.image.dtype == np.uint8
    assert drawn.masks.shape[1:] == (size, size)
    assert drawn.masks.dtype == bool


def test_no_pixel_belongs_to_two_objects():
    for seed in range(5):
        assert scene(seed, 192).masks.sum(0).max() <= 1


def test_every_mask_is_large_enough_to_be_seen():
    for seed in range(5):
        masks = scene(seed, 192).masks
        assert len(masks) >= 2
        assert masks.sum((1, 2)).min() >= SMALLEST_AREA


def test_written_scenes_are_those_drawn(tmp_path):
    coco = pytest.importorskip("pycocotools.coco").COCO(str(write_scenes(tmp_path, 2, 7, 128)))
    assert len(coco.getImgIds()) == 2
    for index, image in enumerate(coco.loadImgs(coco.getImgIds())):
        drawn = scene(7 + index, 128)
        path = tmp_path / coco.dataset["info"]["image_folder"] / image["file_name"]
        assert np.array_equal(np.asarray(Image.open(path)), drawn.image)
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        masks = np.stack([coco.annToMask(annotation) for annotation in annotations]).astype(bool)
        assert np.array_equal(masks, drawn.masks)
        for annotation, mask in zip(annotations, masks, strict=True):
            left, top, width, height = annotation["bbox"]
            assert (
                annotation["area"]
                == mask.sum()
                == mask[top : top + height, left : left + width].sum()
            )
            assert annotation["iscrowd"] == 0
            assert mask[top].any() and mask[:, left].any()
