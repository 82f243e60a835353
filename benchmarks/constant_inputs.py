"""How much of what varies over the decoder's inputs is the same in all images.

    python benchmarks/constant_inputs.py MODEL --images DIR --coco INSTANCES.json [--limit N]

For every layer of the two-way transformer: the share of the input's variance that lies between its
rows, which are tokens or places, and would vanish with the mean of each row taken out; for the
neck's convolutions the share between channels. Boxes of the COCO file are the prompts, at most 8 of
an image. The numbers go to
benchmarks/results/constant_inputs.json, or to --out.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import provenance
from torch import nn

from carsam.engines.torch_engine import TorchEngine
from carsam.evaluation.coco_reading import read_coco
from carsam.families import load_model
from carsam.families.base import Constant, SiteType
from carsam.images.preprocess import preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import read_image
from carsam.progress import make_progress
from carsam.simulation.model import prepare

RESULT = Path(__file__).parent / "results" / "constant_inputs.json"
MOST_BOXES = 8


class Moments:
    """First and second moments of each row over all images and prompts."""

    def __init__(self) -> None:
        self._count, self._first, self._second = 0, torch.zeros(()), torch.zeros(())

    def add(self, inputs: torch.Tensor) -> None:
        """Take inputs (..., rows, K)."""
        rows = inputs.flatten(0, -3).double()
        self._count += len(rows)
        self._first = self._first + rows.sum(0)
        self._second = self._second + (rows**2).sum(0)

    def constant_share(self) -> float:
        """Return the share of the variance that lies between rows, or between channels of one row.

        The variance is around the mean of each channel, or around that of all.
        """
        mean, second = self._first / self._count, self._second / self._count
        centre = mean.mean(0) if len(mean) > 1 else mean.mean()
        return float(1 - (second - mean**2).mean() / (second.mean() - (centre**2).mean()))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    shares = measure(options.model, options.images, options.coco, options.limit)
    document = {**provenance(), "model": options.model, "images": options.limit, "share": shares}
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    for path, share in shares.items():
        print(f"{100 * share:5.1f} %  {path}")


@torch.inference_mode()
def measure(model: str, images: Path, coco: Path, limit: int) -> dict[str, float]:
    """Return the constant share of each layer's input by its path."""
    family, module = load_model(model)
    prepared = prepare(family, module)
    engine = TorchEngine(family, prepared, "float")
    layers = {
        site.path: Moments()
        for site in family.sites(prepared)
        if (".transformer." in site.path and site.type is SiteType.LINEAR)
        or site.constant is Constant.CHANNELS
    }
    for path, moments in layers.items():
        layer = prepared.get_submodule(path)
        layer.register_forward_pre_hook(_watching(moments, isinstance(layer.layer, nn.Conv2d)))
    progress = make_progress()
    data = read_coco(coco)
    chosen = [image for image in data.images if data.of_image(image.id)][:limit]
    progress.start("Measuring", len(chosen))
    for image in chosen:
        pixels, frame = preprocess(read_image(images / image.file_name), engine.framing)
        boxes = np.array([a.box for a in data.of_image(image.id)[:MOST_BOXES]], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        engine.decode(engine.encode(pixels), Prompts(boxes=frame.map_boxes(boxes)), False)
        progress.advance()
    progress.finish()
    return {path: round(moments.constant_share(), 3) for path, moments in layers.items()}


def _watching(moments: Moments, is_map: bool) -> Callable[[Any, tuple[torch.Tensor, ...]], None]:
    """Return a hook that adds a layer's inputs; the places of a map (1, K, h, w) are one row."""

    def watch(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        moments.add(inputs[0].flatten(2).permute(2, 0, 1) if is_map else inputs[0])

    return watch


if __name__ == "__main__":
    main()
