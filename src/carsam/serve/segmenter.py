"""What is served: a model, and the embeddings of the images that were sent."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carsam.engines.base import Engine
from carsam.engines.load import load
from carsam.formats.bundled import is_run, run_folder
from carsam.formats.checkpoint import WEIGHTS_FILE
from carsam.formats.manifest import MANIFEST_FILE
from carsam.images.decode import EncodedImage
from carsam.images.preprocess import Frame
from carsam.predict.everything.generator import SamAutomaticMaskGenerator
from carsam.predict.given_prompts import given_prompts
from carsam.predict.predictor import SamPredictor
from carsam.predict.upscale import upscale_masks
from carsam.serve.embeddings import Embeddings, Encoded
from carsam.serve.refusals import Refused, wrong

KEY = re.compile(r"[0-9a-f]{64}")

MOST_PROMPTS, MOST_POINTS = 256, 64
"""Of one request, and of one prompt: they bound the memory and time of the decoder."""

CHUNK = 16
"""Prompts decoded together."""

FileState = tuple[int, int, int] | None


@dataclass(frozen=True)
class Found:
    """One mask: (H, W) bool, and its predicted IoU."""

    mask: np.ndarray
    predicted_iou: float


class Segmenter:
    """Answers for images by their content; it holds no image of anybody, so threads may share it.

    Args:
        model: what `carsam.load` takes.
        engine, device, warn: as of `carsam.load`.
        cache_bytes: of embeddings that are kept.

    Attributes:
        folder: of a quantized model; None for a float one.

    Raises:
        UserError: the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        engine: str,
        device: str,
        cache_bytes: int,
        warn: Callable[[str], object],
    ) -> None:
        self.name = Path(model).name
        self.folder = run_folder(model) if is_run(model) else None
        self._files = self._look()
        self.engine: Engine = load(model, engine, device, warn)
        self.embeddings = Embeddings(cache_bytes)

    @property
    def replaced(self) -> bool:
        """Whether the run's folder holds other files by now than those that are served."""
        return self._look() != self._files

    def encode(self, content: bytes) -> Encoded:
        """Return the embedding of an image file, computed if it is not kept.

        Raises:
            UserError: the image cannot be used.
        """
        return self.embeddings.encode(content, lambda key: self._computed(key, content))

    def kept(self, key: str) -> Encoded:
        """Return the embedding of an image that was sent before, by the SHA-256 of its file.

        Raises:
            Refused: it is not kept, or the key is none.
        """
        if not KEY.fullmatch(key):
            raise wrong(
                f"Found {key[:80]!r} for the image; expected the SHA-256 of its file, 64 "
                "hexadecimal digits in lower case."
            )
        encoded = self.embeddings.get(key)
        if encoded is None:
            raise Refused(404, "unknown_image", f"Image {key} is not kept here; send its file.")
        return encoded

    def masks(
        self, encoded: Encoded, boxes: Any, points: Any, labels: Any, multimask: bool
    ) -> Iterator[list[Found]]:
        """Yield the masks of each prompt, one or three, the model's own order.

        Only one mask at a time is as large as the image, unless the caller keeps them.

        Args:
            boxes: (P, 4), points: (P, N, 2), labels: (P, N), as of `SamPredictor.predict_batch`.

        Raises:
            UserError: the prompts are wrong.
            Refused: there are too many.
        """
        frame = Frame(encoded.size, self.engine.framing)
        _, height, width = encoded.embedding[0].shape
        prompts = given_prompts(boxes, points, labels, None, frame, (4 * height, 4 * width))
        if len(prompts) > MOST_PROMPTS:
            raise wrong(f"Found {len(prompts)} prompts; expected at most {MOST_PROMPTS}.")
        if prompts.points is not None and prompts.points.shape[1] > MOST_POINTS:
            raise wrong(
                f"Found {prompts.points.shape[1]} points in a prompt; expected at most "
                f"{MOST_POINTS}."
            )
        for start in range(0, len(prompts), CHUNK):
            part = prompts[start : start + CHUNK]
            low_res, ious = self.engine.decode(encoded.embedding, part, multimask)
            for logits, scores in zip(low_res, ious, strict=True):
                yield [
                    Found(upscale_masks(each, frame, return_logits=False), float(score))
                    for each, score in zip(logits, scores, strict=True)
                ]

    def best(
        self,
        encoded: Encoded,
        boxes: list[list[float]],
        points: list[list[float]],
        labels: list[int],
    ) -> Iterator[Found]:
        """Yield one mask for each box, all with the same points; one for the points without boxes.

        A single click can mean a part or the whole: the most confident of three masks answers it.
        """
        count = max(len(boxes), 1)
        single = len(points) == 1 and not boxes
        found = self.masks(
            encoded,
            boxes or None,
            [points] * count if points else None,
            [labels] * count if points else None,
            multimask=single,
        )
        return (max(each, key=lambda one: one.predicted_iou) for each in found)

    def everything(
        self, encoded: Encoded, **options: Any
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the records of everything mode, with COCO's run lengths, and what was warned of.

        Args:
            options: of `carsam.SamAutomaticMaskGenerator`.
        """
        generator = SamAutomaticMaskGenerator(self.engine, output_mode="coco_rle", **options)
        said: list[str] = []
        return generator.generate_encoded(encoded.embedding, encoded.size, warn=said.append), said

    def _computed(self, key: str, content: bytes) -> Encoded:
        said: list[str] = []
        predictor, began = SamPredictor(self.engine), time.perf_counter()
        predictor.set_image(EncodedImage("of the request", content), warn=said.append)
        seconds = time.perf_counter() - began
        return Encoded(key, predictor.embedding, predictor.original_size, seconds, tuple(said))

    def _look(self) -> tuple[FileState, ...]:
        if self.folder is None:
            return ()
        return tuple(_state(self.folder / name) for name in (MANIFEST_FILE, WEIGHTS_FILE))


def _state(path: Path) -> FileState:
    """Return what changes when a file is replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
