"""An ONNX export beside the native engine: size, time, masks, accuracy.

    python benchmarks/onnx_export.py RUN instances.json IMAGES [--limit 20] [--threads 1]

Both forms are written, the fast one and the exact one, and run by ONNX Runtime on the same threads
as the native engine. Every image is encoded by all three in turn, and the masks of its annotated
boxes are decoded one by one, as an annotation program asks for them: the native engine from the
box, the exports from two corners and the padding point that such programs add. Seconds are medians,
wall-clock and of the processor; IoU is that with the annotated mask, and that with native's mask.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from provenance import provenance
from pycocotools.coco import COCO

from carsam.engines.native_engine import NativeEngine
from carsam.export.onnx.check import session
from carsam.export.onnx.write import DECODER, ENCODER, write_onnx
from carsam.formats.checkpoint import read_checkpoint
from carsam.formats.inventory import bytes_on_disk
from carsam.images.preprocess import Frame, normalise_and_pad
from carsam.images.prompts import Prompts
from carsam.images.read import read_resized
from carsam.predict.upscale import upscale_masks
from carsam.progress import make_progress
from carsam.threads import set_threads

FORMS = ("native", "fast", "exact")


class Clock:
    """Seconds of every call by what it was, wall-clock and of the processor."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)

    def __call__(self, what: str, call: Callable, *arguments: Any) -> Any:
        start = time.perf_counter(), time.process_time()
        result = call(*arguments)
        end = time.perf_counter(), time.process_time()
        self._seconds[what].append((end[0] - start[0], end[1] - start[1]))
        return result

    def medians(self) -> dict[str, dict[str, float]]:
        """Leave the first call of each kind out: it allocates what later ones use again."""
        return {
            what: dict(
                zip(
                    ("seconds", "processor_seconds"),
                    np.median(calls[1:] or calls, axis=0).round(4).tolist(),
                    strict=True,
                )
            )
            for what, calls in self._seconds.items()
        }


class Native:
    def __init__(self, run: str) -> None:
        self._engine = NativeEngine(read_checkpoint(run))
        self.framing = self._engine.framing

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return self._engine.encode(pixels)[0]

    def decode(self, embedding: np.ndarray, box: np.ndarray, frame: Frame) -> np.ndarray:
        masks, _ = self._engine.decode((embedding,), Prompts(boxes=box), False)
        return upscale_masks(masks, frame, False)[0, 0]


class Export:
    def __init__(self, folder: Path) -> None:
        self._encoder = session((folder / ENCODER).read_bytes())
        self._decoder = session((folder / DECODER).read_bytes())

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return self._encoder.run(None, {"x": pixels[None]})[0][0]

    def decode(self, embedding: np.ndarray, box: np.ndarray, frame: Frame) -> np.ndarray:
        side = 4 * embedding.shape[-1]
        points = np.concatenate([box.reshape(1, 2, 2), np.zeros((1, 1, 2), np.float32)], axis=1)
        inputs = {
            "image_embeddings": np.ascontiguousarray(embedding[None]),
            "point_coords": points,
            "point_labels": np.array([[2, 3, -1]], np.float32),
            "mask_input": np.zeros((1, 1, side, side), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(frame.original_size, np.float32),
        }
        return self._decoder.run(["masks"], inputs)[0][0, 0] > 0


def annotated(coco: COCO, limit: int) -> Iterator[tuple[str, list[dict]]]:
    """Yield file name and annotations of images that have some."""
    for number in sorted(coco.getImgIds())[:limit]:
        annotations = coco.loadAnns(coco.getAnnIds(number, iscrowd=False))
        if annotations:
            yield coco.loadImgs(number)[0]["file_name"], annotations


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    progress, clock = make_progress(), Clock()
    sizes = {"checkpoint": bytes_on_disk(arguments.run)}
    models: dict[str, Any] = {"native": Native(arguments.run)}
    for form in FORMS[1:]:
        out = folder / form
        write_onnx(arguments.run, out, form == "exact", None, 1, False, progress)
        sizes |= {f"{form} {name}": (out / name).stat().st_size for name in (ENCODER, DECODER)}
        models[form] = clock(f"{form} load", Export, out)
    truth: defaultdict[str, list[float]] = defaultdict(list)
    native: defaultdict[str, list[float]] = defaultdict(list)
    same = dict.fromkeys(FORMS[1:], 0)
    coco = COCO(arguments.annotations)
    images = list(annotated(coco, arguments.limit))
    progress.start("Comparing", len(images))
    for name, annotations in images:
        framing = models["native"].framing
        image, size = read_resized(Path(arguments.images) / name, framing)
        pixels, frame = normalise_and_pad(image, framing), Frame(size, framing)
        embeddings = {form: clock(f"{form} encode", models[form].encode, pixels) for form in FORMS}
        for form in same:
            same[form] += np.array_equal(embeddings[form], embeddings["native"])
        for annotation in annotations:
            x, y, width, height = annotation["bbox"]
            box = frame.map_boxes(np.array([[x, y, x + width, y + height]]))
            masks = {
                form: clock(f"{form} decode", models[form].decode, embeddings[form], box, frame)
                for form in FORMS
            }
            for form, mask in masks.items():
                truth[form].append(overlap(mask, coco.annToMask(annotation) > 0))
                native[form].append(overlap(mask, masks["native"]))
        progress.advance()
    progress.finish()
    return {
        **provenance("carsam", "numpy", "onnx", "onnxruntime"),
        "run": arguments.run,
        "threads": arguments.threads,
        "images": len(images),
        "masks": len(truth["native"]),
        "bytes": sizes,
        "seconds": clock.medians(),
        "images_with_the_same_bits": same,
        "iou_with_truth": {form: round(float(np.mean(truth[form])), 4) for form in FORMS},
        "iou_with_native": {form: round(float(np.mean(native[form])), 4) for form in FORMS[1:]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("annotations")
    parser.add_argument("images")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/onnx_export.json"))
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    text = json.dumps(result, indent=1)
    arguments.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
