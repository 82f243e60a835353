"""The images and objects of a COCO instances json as frozen records."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from carsam.evaluation.ids import Id
from carsam.evaluation.json_reading import Box

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}
"""Size classes by annotation area in pixels: from, to (excluded)."""


@dataclass(frozen=True)
class CocoImage:
    """One image; sizes in pixels."""

    id: Id
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class Annotation:
    """One object of one image.

    `id` need not be unique. `segmentation` is polygons or a run-length encoding;
    `masks.annotation_rle` decodes it.
    A `crowd` is never prompted; COCO AP ignores detections that fall into it.
    """

    id: Id
    image_id: Id
    category_id: Id
    box: Box
    area: float
    crowd: bool
    segmentation: list | dict

    @property
    def size(self) -> str:
        """Return the annotation's class of `SIZES`."""
        return next(name for name, (low, high) in SIZES.items() if low <= self.area < high)


@dataclass(frozen=True)
class CocoData:
    """Images in order of file name; annotations and category ids in the json's order.

    Ids only say what belongs together. Neither their values nor their order decides anything.
    `category_names` has the categories that the json gives a name.
    """

    images: tuple[CocoImage, ...]
    annotations: tuple[Annotation, ...]
    category_ids: tuple[Id, ...]
    category_names: Mapping[Id, str] = field(default_factory=dict)

    @cached_property
    def _annotations_by_image(self) -> dict[Id, list[Annotation]]:
        found = defaultdict(list)
        for annotation in self.annotations:
            found[annotation.image_id].append(annotation)
        return found

    def of_image(self, image_id: Id) -> tuple[Annotation, ...]:
        """Return the annotations of one image, crowds included."""
        return tuple(self._annotations_by_image.get(image_id, ()))

    def restricted(self, image_ids: Collection[Id]) -> "CocoData":
        """Return only these images and their annotations; categories stay."""
        return CocoData(
            tuple(image for image in self.images if image.id in image_ids),
            tuple(
                annotation for annotation in self.annotations if annotation.image_id in image_ids
            ),
            self.category_ids,
            self.category_names,
        )

    def ids_sha256(self) -> str:
        """Return the SHA-256 of the sorted image ids and annotation ids: one test set, one hash."""
        ids = [_sorted(image.id for image in self.images), _sorted(a.id for a in self.annotations)]
        return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def _sorted(ids: Iterable[Id]) -> list[Id]:
    return sorted(ids, key=lambda identity: (isinstance(identity, str), identity))
