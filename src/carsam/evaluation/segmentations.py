"""What of an annotation's `segmentation` is a mask of its image."""

from typing import Any

from faster_coco_eval.core import mask as coco_mask

from carsam.evaluation.coco_data import CocoImage
from carsam.evaluation.json_reading import number, whole_number


def usable_segmentation(segmentation: Any, image: CocoImage) -> tuple[list | dict | None, bool]:
    """Return the polygons or run lengths that can be drawn, and whether polygons were left out.

    A polygon has three points or more, none farther outside the image than its size, as drawing
    takes memory. Run lengths are of the image's size and complete.

    Args:
        segmentation: the json's value, whatever it is.
        image: the image, of width and height 0 where they are unknown; then nothing can be drawn.
    """
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, image), False
    polygons = _polygons(segmentation)
    usable = [polygon for polygon in (_polygon(p, image) for p in polygons) if polygon is not None]
    return usable or None, len(usable) < len(polygons)


def _polygons(segmentation: Any) -> list:
    """Return a segmentation as a list of polygons; some programs write a single one without it."""
    if not isinstance(segmentation, list):
        return []
    if segmentation and not any(isinstance(polygon, list) for polygon in segmentation):
        return [segmentation]
    return segmentation


def _polygon(coordinates: Any, image: CocoImage) -> list | None:
    if not isinstance(coordinates, list) or len(coordinates) < 6 or len(coordinates) % 2:
        return None
    numbers = [number(coordinate) for coordinate in coordinates]
    for index, value in enumerate(numbers):
        size = image.height if index % 2 else image.width
        if value is None or not -size <= value <= 2 * size or size == 0:
            return None
    return numbers


def _run_lengths(segmentation: dict, image: CocoImage) -> dict | None:
    size = [image.height, image.width]
    given = segmentation.get("size")
    if not isinstance(given, list) or list(map(whole_number, given)) != size or 0 in size:
        return None
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        runs = [run for run in map(whole_number, counts) if run is not None and run >= 0]
        whole = len(runs) == len(counts) and sum(runs) == image.height * image.width
        return {"size": size, "counts": runs} if whole else None
    encoded = {"size": size, "counts": counts}
    return encoded if isinstance(counts, str) and _decodes(encoded) else None


def _decodes(encoded: dict) -> bool:
    try:
        coco_mask.decode(encoded)
    except (RuntimeError, TypeError, ValueError):
        return False
    return True
