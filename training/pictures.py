"""Photographs and scenes in memory: small enough to keep, ready to be cut into training windows."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from carsam.images.scenes import write_scenes

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
LONGEST_SIDE = 640  # as in COCO
TRAINED_ON = ("train", "train_partial", "val_dev_person")
HELD_BACK = ("calib", "val_dev", "val_dev_panoptic")


@dataclass(frozen=True)
class Cutout:
    """One object's mask, kept as the part inside its box.

    Attributes:
        left, top: pixel position of the part.
        mask: uint8, height x width, 0 or 255 (between them where resized).
        box: left, top, right, bottom edge as annotated, a fraction of a pixel beside the mask's.
    """

    left: int
    top: int
    mask: np.ndarray
    box: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """An image, uint8 height x width x 3, at most 640 pixels long, with its objects."""

    image: np.ndarray
    objects: tuple[Cutout, ...]


def read_photographs(data: Path) -> list[Picture]:
    """What is trained on: train, train_partial, val_dev_person, ECSSD."""
    annotations = data / "coco" / "annotations"
    _check_apart(annotations)
    pictures = []
    for name in TRAINED_ON:
        pictures += read_coco(annotations / f"{name}.json", data / "coco")
    for path in sorted((data / "extra" / "ecssd100" / "images").glob("*.jpg")):
        mask = (
            np.asarray(Image.open(path.parents[1] / "masks" / f"{path.stem}.png").convert("L"))
            >= 128
        )
        pictures.append(_picture(path, [mask]))
    return pictures


def _check_apart(annotations: Path) -> None:
    """Refuse to train on an image that something is measured, chosen or calibrated with."""
    seen, kept = (
        {
            image["id"]
            for name in names
            for image in json.loads((annotations / f"{name}.json").read_text())["images"]
        }
        for names in (TRAINED_ON, [n for n in HELD_BACK if (annotations / f"{n}.json").exists()])
    )
    if seen & kept:
        raise ValueError(f"images {sorted(seen & kept)[:5]} are trained on and held back")


def read_coco(path: Path, root: Path) -> list[Picture]:
    """The images of a COCO json with their non-crowd objects; images without any are left out.

    Args:
        path: the json; its `info.image_folder` is a folder below `root`.
        root: folder of the image folders.
    """
    coco = COCO(str(path))
    folder = root / coco.dataset["info"]["image_folder"]
    pictures = []
    for image_id in sorted(coco.getImgIds()):
        annotations = coco.loadAnns(coco.getAnnIds(image_id, iscrowd=False))
        if annotations:
            masks = [coco.annToMask(annotation) > 0 for annotation in annotations]
            boxes = [annotation["bbox"] for annotation in annotations]
            path = folder / coco.loadImgs(image_id)[0]["file_name"]
            pictures.append(_picture(path, masks, boxes))
    return pictures


def _picture(path: Path, masks: list[np.ndarray], boxes: list | None = None) -> Picture:
    """Read an image; shrink it and its objects to the longest side that is kept.

    Args:
        masks: bool, each height x width of the image.
        boxes: COCO boxes (left, top, width, height); the masks' own by default.
    """
    image = Image.open(path).convert("RGB")
    ratio = min(1.0, LONGEST_SIDE / max(image.size))
    size = round(image.width * ratio), round(image.height * ratio)
    objects = []
    for i, inside in enumerate(masks):
        mask = Image.fromarray(inside.astype(np.uint8) * 255)
        mask = mask if mask.size == size else mask.resize(size, Image.BOX)
        found = mask.getbbox()
        if found:
            box = found
            if boxes:
                left, top, width, height = boxes[i]
                box = tuple(ratio * edge for edge in (left, top, left + width, top + height))
            objects.append(Cutout(found[0], found[1], np.asarray(mask.crop(found)), box))
    return Picture(
        np.asarray(image if image.size == size else image.resize(size, Image.BILINEAR)),
        tuple(objects),
    )


def read_scenes(folder: Path, count: int, seed: int) -> list[Picture]:
    """Return the procedural scenes, drawn into a folder once."""
    path = folder / "instances.json"
    if not path.exists():
        write_scenes(folder, count, seed)
    return read_coco(path, folder)
