"""What an export's models compute beside what the native engine does, before they are written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carsam.engines.native_engine import NativeEngine
from carsam.errors import UserError
from carsam.export.onnx.models import NCHW, Exporter
from carsam.images.preprocess import Frame, Framing, normalise_and_pad, resize
from carsam.images.prompts import Prompts
from carsam.images.read import list_images, read_resized
from carsam.images.scenes import scene
from carsam.progress import Progress
from carsam.threads import current_threads

POINTS_ALONG_SIDE = 3
"""Prompts are points in a square pattern."""

MOST_DIFFERENCE = 1e-2
"""Of a block's result for the same input, relative. A code that differs makes about 1e-5."""

LEAST_OVERLAP = 0.9
"""Mean IoU of the decoder's masks for the same embedding."""


FLIPS = (
    "Where bits differ, codes near the middle of two fell to the other side, and 4 bits amplify "
    "that. Masks are other ones then, on average about as good."
)


@dataclass(frozen=True)
class Comparison:
    """How an export compares with the native engine.

    Args:
        images: compared.
        blocks: of the encoder, the neck counted as one.
        equal_blocks: that give the same bits for the same input, the first image's.
        largest_difference: of a block's result, relative to its mean magnitude.
        equal_images: whose embedding is the same to the bit.
        masks: compared, one for each point.
        decoder_overlap: mean and lowest mask IoU when both decode the native embedding.
        overlap: mean and lowest mask IoU when encoder and decoder are the export's.
    """

    images: int
    blocks: int
    equal_blocks: int
    largest_difference: float
    equal_images: int
    masks: int
    decoder_overlap: tuple[float, float]
    overlap: tuple[float, float]

    def lines(self) -> list[str]:
        """Return sentences for people."""
        decoder, whole = (
            f"{mean:.3f} on average, {lowest:.3f} at worst"
            for mean, lowest in (self.decoder_overlap, self.overlap)
        )
        off = self.largest_difference
        return [
            f"Compared with carsam on {self.images} images, {self.masks} points:",
            f"  same bits for the same input: {self.equal_blocks} of {self.blocks} encoder blocks"
            + (f" (largest difference {off:.0e})" if off else ""),
            f"  same bits of the embedding: {self.equal_images} of {self.images} images",
            f"  mask IoU of the decoder alone: {decoder}",
            f"  mask IoU of encoder and decoder: {whole}",
            *([] if self.equal_images == self.images else [FLIPS]),
        ]

    def refuse_failure(self) -> None:
        """Raise a UserError if the export does not compute what the native engine computes."""
        found = ""
        if not self.largest_difference <= MOST_DIFFERENCE:  # NaN is neither more nor less
            found = (
                f"a block of the encoder is off by {self.largest_difference:.1%} of its result; "
                f"expected at most {MOST_DIFFERENCE:.0%}"
            )
        elif self.decoder_overlap[0] < LEAST_OVERLAP:
            found = (
                f"the decoder's masks have a mean IoU of {self.decoder_overlap[0]:.3f} with "
                f"carsam's; expected at least {LEAST_OVERLAP}"
            )
        if found:
            raise UserError(
                f"ONNX Runtime does not compute what carsam does: {found}. Nothing was written. "
                "Install the versions of onnx and onnxruntime that the extra `onnx` asks for."
            )


def compare(
    exporter: Exporter,
    engine: NativeEngine,
    encoder: bytes,
    decoder: bytes,
    images: Path | None,
    count: int,
    progress: Progress,
) -> Comparison:
    """Run exported models and the native engine on the same images.

    Args:
        encoder, decoder: the serialised models that take prepared pixels, and points there.
        images: folder of photos; procedural scenes unless given.
        count: of images.
    """
    encode, decode = session(encoder), session(decoder)
    equal_images, alone, whole = 0, [], []
    differences: list[float] = []
    given = _images(images, count, engine.framing, progress)
    progress.start("Comparing with carsam", count)
    for pixels, frame in given:
        if not differences:
            differences = _block_differences(exporter, pixels)
        native = engine.encode(pixels)
        (embedding,) = encode.run(None, {NCHW: pixels[None]})
        equal_images += np.array_equal(embedding[0], native[0])
        for point in _points(frame):
            mask = _native_mask(engine, native, point)
            alone.append(_overlap(mask, _exported_mask(decode, native[0][None], point, frame)))
            whole.append(_overlap(mask, _exported_mask(decode, embedding, point, frame)))
        progress.advance()
    progress.finish()
    return Comparison(
        len(alone) // POINTS_ALONG_SIDE**2,
        len(differences),
        differences.count(0.0),
        float(np.max(differences)),
        equal_images,
        len(alone),
        (float(np.mean(alone)), min(alone)),
        (float(np.mean(whole)), min(whole)),
    )


def session(model: bytes) -> Any:
    """Return ONNX Runtime's session of a model, on as many threads as carsam computes with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = current_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _images(
    folder: Path | None, count: int, framing: Framing, progress: Progress
) -> Iterator[tuple[np.ndarray, Frame]]:
    """Yield pixels (3, S, S) and the frame of every image."""
    if folder is None:
        for seed in range(count):
            image = scene(seed).image
            size = (image.shape[0], image.shape[1])
            yield normalise_and_pad(resize(image, framing), framing), Frame(size, framing)
        return
    for path in list_images(folder, warn=progress.warn, info=progress.info)[:count]:
        image, size = read_resized(path, framing)
        yield normalise_and_pad(image, framing), Frame(size, framing)


def _block_differences(exporter: Exporter, pixels: np.ndarray) -> list[float]:
    """Return how far each block, and the neck, is off when the native one gets the same input."""
    watched = session(exporter.encoder_of_pixels(watched=True).SerializeToString())
    embedding, *states = watched.run(None, {NCHW: pixels[None]})
    native = exporter.network.encoder
    tokens = embedding[0].reshape(embedding.shape[1], -1).T
    pairs = [(native.embed(pixels), states[0])]
    pairs += [
        (block(before.copy()), after)
        for block, before, after in zip(native.blocks, states[:-1], states[1:], strict=True)
    ]
    pairs.append((native.neck(states[-1], native.size), tokens))
    return [float(np.abs(one - other).mean() / (np.abs(one).mean() or 1)) for one, other in pairs]


def _points(frame: Frame) -> Iterator[np.ndarray]:
    height, width = frame.input_size
    for row in range(POINTS_ALONG_SIDE):
        for column in range(POINTS_ALONG_SIDE):
            place = (column + 0.5) * width, (row + 0.5) * height
            yield np.array(place, np.float32) / POINTS_ALONG_SIDE


def _native_mask(engine: NativeEngine, embedding: tuple, point: np.ndarray) -> np.ndarray:
    prompts = Prompts(point[None, None], np.ones((1, 1), np.int64))
    masks, ious = engine.decode(embedding, prompts, multimask_output=True)
    return masks[0, ious[0].argmax()] > 0


def _exported_mask(
    decoder: Any, embedding: np.ndarray, point: np.ndarray, frame: Frame
) -> np.ndarray:
    side = 4 * embedding.shape[-1]
    inputs = {
        "image_embeddings": np.ascontiguousarray(embedding),
        "point_coords": np.stack([point, np.zeros(2, np.float32)])[None],
        "point_labels": np.array([[1, -1]], np.float32),
        "mask_input": np.zeros((1, 1, side, side), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(frame.original_size, np.float32),
    }
    (mask,) = decoder.run(["low_res_masks"], inputs)
    return mask[0, 0] > 0


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0
