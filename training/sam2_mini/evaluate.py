"""Measure a run, finished or not, from the folder `training`:

    python -m sam2_mini.evaluate --data DIR --out RUN [--clips 8] [--davis]

AP and mean IoU of boxes on the images of calib.json, J and F on pseudo-videos of the same images:
nothing is trained on them, so that one may choose by them. DAVIS only reports.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from pictures import read_coco
from PIL import Image
from windows import CANVAS

from carsam.engines.load import load
from carsam.evaluation.davis.evaluate import evaluate_davis
from carsam.evaluation.evaluate import evaluate
from sam2_mini.clips import make_clip, seen
from sam2_mini.export import export

CHOOSING = "calib"
FRAMES = 24
SEED = 1  # no clip of the training has it


def write_clips(
    data: Path, folder: Path, count: int, size: int = CANVAS, frames: int = FRAMES
) -> None:
    """Write pseudo-videos of the choosing images in the layout of DAVIS 2017.

    Args:
        data: folder with `coco`.
        folder: gets `JPEGImages` and `Annotations`.
        count: number of videos.
        size: height and width in pixels.
        frames: of each video.
    """
    pictures = read_coco(data / "coco" / "annotations" / f"{CHOOSING}.json", data / "coco")
    for number in range(count):
        images = folder / "JPEGImages" / f"{number:03}"
        labels = folder / "Annotations" / f"{number:03}"
        random = np.random.default_rng([SEED, number])
        while True:
            picture = pictures[random.integers(len(pictures))]
            clip = make_clip(random, picture, pictures, size, frames)
            masks = clip.masks[seen(clip.masks[:, 0])]
            if len(masks):
                break
        for place in (images, labels):
            place.mkdir(parents=True, exist_ok=True)
        for time, image in enumerate(clip.frames):
            label = np.zeros((size, size), np.uint8)
            for number_of_object, mask in enumerate(masks[:, time], 1):
                label[mask] = number_of_object
            pixels = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            pixels.save(images / f"{time:05}.jpg", quality=90)
            Image.fromarray(label).save(labels / f"{time:05}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--davis", action="store_true", help="report on DAVIS too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, run = arguments.data, arguments.out
    parts = export(run, run / "model")
    print(f"averages of {', '.join(parts)}", flush=True)
    engine = load(run / "model")
    coco = data / "coco" / "annotations" / f"{CHOOSING}.json"
    accuracy = evaluate(engine, coco, data / "coco" / "images_train").accuracy
    print(f"{CHOOSING}: {accuracy}", flush=True)
    if "memory" not in parts:
        return
    clips = run / f"choosing_clips_{arguments.clips}"
    if not clips.exists():
        write_clips(data, clips, arguments.clips)
    found = evaluate_davis(engine, clips, year="2017")
    print(f"pseudo-videos: J&F {found.J_and_F}", flush=True)
    if arguments.davis:
        for prompts in ("masks", "clicks"):
            found = evaluate_davis(engine, data / "davis", prompts=prompts)
            print(f"DAVIS, {prompts}: J&F {found.J_and_F}", flush=True)


if __name__ == "__main__":
    main()
