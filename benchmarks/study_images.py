"""Images that neither sam-mini's training nor any choice of a method has seen, split once in two.

DATA holds `coco/annotations/val_dev_panoptic.json` (COCO's things, from its panoptic maps) with the
images it names, `davis/` (DAVIS-2016 in 480p) and `extra/grabcut13/`. Of these sam-mini's training
used none (training/README.md), and no method was chosen on them. A third of each source's groups
is for choosing, the rest for reporting: a group is what must not be torn apart, a video or an
image. Where a group goes depends on its name and `SEED` alone."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.masks import annotation_rle, decode
from carsam.images.read import read_image

SEED = 2026
PARTS = ("choosing", "reporting")
FRAMES = 6
"""Frames of a video that are used, evenly spaced."""


@dataclass(frozen=True)
class StudyImage:
    """An image and its objects.

    Args:
        name: unique.
        group: what it belongs to.
        path: of the file.
        objects: gives the objects' masks (H, W) bool.
    """

    name: str
    group: str
    path: Path
    objects: Callable[[], list[np.ndarray]]


def images_of(part: str, data: Path) -> list[StudyImage]:
    """Return the images for `choosing` or for `reporting`, in the order of their names."""
    found = []
    for source in (_panoptic, _davis, _grabcut):
        images = list(source(data))
        chosen = choosing({image.group for image in images})
        found += [image for image in images if (image.group in chosen) == (part == PARTS[0])]
    return sorted(found, key=lambda image: image.name)


def choosing(groups: set[str]) -> set[str]:
    """Return the third of a source's groups that is for choosing."""
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{SEED} {group}".encode()).digest())
    return set(order[: len(order) // 3])


def _panoptic(data: Path) -> Iterator[StudyImage]:
    file = data / "coco" / "annotations" / "val_dev_panoptic.json"
    folder = data / "coco" / json.loads(file.read_bytes())["info"]["image_folder"]
    coco = read_coco(file)
    for image in coco.images:
        things = [thing for thing in coco.of_image(image.id) if not thing.crowd]
        name = f"coco/{image.file_name}"

        def objects(image=image, things=things) -> list[np.ndarray]:
            return [decode(annotation_rle(thing, image)) for thing in things]

        yield StudyImage(name, name, folder / image.file_name, objects)


def _davis(data: Path) -> Iterator[StudyImage]:
    for video in sorted((data / "davis" / "JPEGImages" / "480p").iterdir()):
        frames = sorted(video.glob("*.jpg"))
        for place in np.linspace(0, len(frames) - 1, FRAMES).round().astype(int):
            frame = frames[place]
            mask = data / "davis" / "Annotations" / "480p" / video.name / f"{frame.stem}.png"
            group = f"davis/{video.name}"
            yield StudyImage(f"{group}/{frame.name}", group, frame, _one_object(mask))


def _grabcut(data: Path) -> Iterator[StudyImage]:
    folder = data / "extra" / "grabcut13"
    for path in sorted((folder / "imgs").iterdir()):
        name = f"grabcut/{path.name}"
        yield StudyImage(name, name, path, _one_object(folder / "seg_GT" / f"{path.stem}.bmp"))


def _one_object(path: Path) -> Callable[[], list[np.ndarray]]:
    def objects() -> list[np.ndarray]:
        mask = read_image(path)[..., 0] > 127
        return [mask] if mask.any() else []

    return objects
