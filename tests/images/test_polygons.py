"""Polygons, drawn again, are the same mask, holes included."""

import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from carsam.images.polygons import polygons


def drawn(found, shape):
    """The mask that pycocotools makes of polygons."""
    encoded = coco_mask.merge(coco_mask.frPyObjects(found, *shape))
    return coco_mask.decode(encoded).astype(bool)


def areas(found):
    """The area inside each polygon, by the shoelace formula."""
    points = [np.reshape(polygon, (-1, 2)).T for polygon in found]
    return [(x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2 for x, y in points]


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=24)))
def test_they_draw_the_mask(mask):
    found = polygons(mask)
    assert sum(areas(found)) == mask.sum()
    if mask.any():
        assert (drawn(found, mask.shape) == mask).all()


def test_a_rectangle_has_four_corners():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    assert polygons(mask) == [[2, 1, 6, 1, 6, 3, 2, 3]]


def test_a_part_inside_a_hole_is_a_polygon_of_its_own():
    mask = np.ones((9, 9), bool)
    mask[1:8, 1:8] = False
    mask[3:6, 3:6] = True
    ring, middle = polygons(mask)
    assert areas([ring, middle]) == [32, 9]
    assert middle == [3, 3, 6, 3, 6, 6, 3, 6]


def test_parts_that_touch_at_a_corner_are_two_polygons():
    assert len(polygons(np.eye(2, dtype=bool))) == 2


def test_a_cut_to_a_hole_has_no_width():
    """Readers that fill polygons leave the hole, whatever way they go about it."""
    mask = np.ones((9, 9), bool)
    mask[3:6, 3:6] = False
    (polygon,) = polygons(mask)
    canvas = Image.new("1", (90, 90))
    ImageDraw.Draw(canvas).polygon([10 * number for number in polygon], fill=1)
    inside = np.asarray(canvas)[5::10, 5::10]
    assert (inside == mask).all()
