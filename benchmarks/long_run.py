"""Memory of one predictor over many images: `python benchmarks/long_run.py RUN FOLDER RESULT.json`.

Images of the folder are taken again and again until there are 200. After each one the memory that
the process holds (VmRSS of Linux) is noted.
"""

import json
import sys
from pathlib import Path

import numpy as np
from provenance import provenance

from carsam.engines.load import load
from carsam.images.read import list_images, read_image
from carsam.predict.predictor import SamPredictor
from carsam.system import peak_memory

IMAGES = 200


def held_memory() -> float:
    """Memory that the process holds now, in 10^6 bytes."""
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) * 1024 / 1e6


def main(run: str, folder: str, result: str) -> None:
    predictor, paths, held = SamPredictor(load(run, "native")), list_images(folder), []
    for index in range(IMAGES):
        image = read_image(paths[index % len(paths)])
        predictor.set_image(image)
        height, width = image.shape[:2]
        predictor.predict(box=np.array([width / 4, height / 4, width * 3 / 4, height * 3 / 4]))
        held.append(round(held_memory(), 1))
    document = {
        **provenance("numpy"),
        "run": Path(run).name,
        "images": IMAGES,
        "held_mb": held,
        "held_mb_after_20": held[19],
        "held_mb_at_the_end": held[-1],
        "peak_mb": round(peak_memory() / 1e6, 1),
    }
    Path(result).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
