"""Make the bundled sam-mini-w4a4 anew; the same photos, processor and versions give the same bytes.

    python scripts/build_bundled.py PHOTOS --coco INSTANCES.json

The one in the repository was made of COCO train2017 photos and their boxes. It takes twelve minutes
and 3 GB of memory.
"""

import argparse
from pathlib import Path

import torch

from carsam.calibration.quantize import quantize
from carsam.formats.bundled import FOLDER
from carsam.progress import make_progress

SETTINGS = ("polish.steps=1000",)
"""Stated, so that a change of the recipe's own values does not change the bundled model."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundled sam-mini-w4a4 anew.")
    parser.add_argument("photos", type=Path, help="folder of photos to calibrate on")
    parser.add_argument("--coco", type=Path, help="COCO instances json of the photos")
    parser.add_argument("--out", type=Path, default=FOLDER / "sam-mini-w4a4")
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums of floats depend on how they are shared among threads
    model = quantize(
        "sam-mini",
        options.photos,
        "carsam-plus",
        "w4a4",
        settings=SETTINGS,
        coco=options.coco,
        count=32,
        exact=True,
        prompts_per_image=16,
        seed=0,
        device="cpu",
        progress=make_progress(),
    )
    for changing in ("seconds", "peak_mb"):
        del model.provenance["calibration"][changing]
    model.save(options.out, force=True)


if __name__ == "__main__":
    main()
