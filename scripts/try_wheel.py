"""Whether an installed wheel runs by itself: a mask by the compiled kernels, without torch.

pip install carsam-*.whl && python scripts/try_wheel.py
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from carsam.images.scenes import scene
from carsam.runtime import kernels

LEAST_IOU = 0.8


def main() -> None:
    if importlib.util.find_spec("torch") is not None:
        sys.exit("torch is installed here; the wheel must be tried without it.")
    if kernels.instruction_set() == "numpy":
        sys.exit("The wheel has no compiled kernels.")
    drawn = scene(0, 512)
    largest = max(drawn.masks, key=np.count_nonzero)
    with tempfile.TemporaryDirectory() as folder:
        photo, out = Path(folder) / "scene.png", Path(folder) / "mask.png"
        Image.fromarray(drawn.image).save(photo)
        command = ["carsam", "predict", "sam-mini-w4a4", photo, "--out", out, "--box", box(largest)]
        subprocess.run(command, check=True)
        found = np.asarray(Image.open(out)) > 0
    iou = np.count_nonzero(found & largest) / np.count_nonzero(found | largest)
    print(f"{kernels.instruction_set()} kernels, IoU {iou:.3f} with what is drawn")
    if iou < LEAST_IOU:
        sys.exit(f"Expected at least {LEAST_IOU}.")


def box(mask: np.ndarray) -> str:
    """Return the corners around a mask as the command takes them."""
    rows, columns = np.nonzero(mask)
    return ",".join(map(str, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))


if __name__ == "__main__":
    main()
