"""The native engine: a checkpoint run in integers, without torch."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from carsam.engines.base import Embedding
from carsam.errors import UnsupportedError, UserError
from carsam.formats.checkpoint import Checkpoint
from carsam.formats.mask_thresholds import MaskThresholds, read_thresholds
from carsam.images.prompts import Prompts
from carsam.runtime import kernels
from carsam.runtime.networks import Sam, Sam2, read_sam, read_sam2, read_sam3_tracker
from carsam.runtime.two_way import PROMPTS_AT_ONCE
from carsam.runtime.weights import Weights

Read = Callable[[Weights, Mapping[str, Any]], Sam | Sam2]
"""Builds a network from the tensors of a checkpoint and its model configuration."""

READERS: dict[str, Read] = {
    "sam": read_sam,
    "sam2": read_sam2,
    "sam2_video": read_sam2,
    "sam3_tracker": read_sam3_tracker,
    "sam3_tracker_video": read_sam3_tracker,
}
"""What builds a checkpoint's network, by its family; of models for videos, the image half."""

ARITHMETIC = 2
"""Raised when the encoder's results change, so that old embeddings on disk are not used."""


class NativeEngine:
    """Runs a checkpoint of SAM or SAM 2 on images; implements `carsam.engines.base.Engine`.

    Args:
        threads: of every native engine in this process; by default those of `carsam.threads`.

    Raises:
        UserError: the family or a grid of the checkpoint is not supported, or a part is missing.
    """

    mode = "native"

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None) -> None:
        self._checkpoint = checkpoint
        manifest = checkpoint.manifest
        if manifest["family"] not in READERS:
            raise UnsupportedError(
                f"The native engine runs the families {', '.join(READERS)}; the checkpoint is of "
                f"family {manifest['family']}. Use --engine simulated."
            )
        try:
            self._read(Weights(checkpoint), manifest["family"], manifest["model_config"])
        except KeyError as error:
            raise UserError(
                f"The checkpoint's model configuration lacks {error}. Quantize the model again."
            ) from error
        if threads is not None:
            kernels.set_threads(threads)
        self.framing = self._network.framing

    def _read(self, weights: Weights, family: str, config: Mapping[str, Any]) -> None:
        self._network = READERS[family](weights, config)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything that decides what `encode` makes of an image."""
        return f"native {ARITHMETIC} {self._checkpoint.fingerprint}"

    @cached_property
    def mask_thresholds(self) -> MaskThresholds | None:
        """The thresholds of everything mode that were recorded for this model."""
        return read_thresholds(self._checkpoint.manifest)

    @property
    def threads(self) -> int:
        """The threads it computes with."""
        return kernels.threads()

    def encode(self, pixels: np.ndarray) -> Embedding:
        """Return the image embedding of normalised, padded `pixels` (3, S, S) float32."""
        expected = (3, self.framing.side, self.framing.side)
        if pixels.shape != expected:
            raise UserError(f"Pixels of shape {pixels.shape}; this model expects {expected}.")
        return self._network.encode(np.asarray(pixels, np.float32))

    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4h, 4w) and predicted IoUs (P, M), float32."""
        images = channels_last(embedding)
        parts = [
            self._network.decode(images, some, multimask_output)
            for some in prompts_at_once(prompts)
        ]
        if len(parts) == 1:
            return parts[0]
        masks, ious = zip(*parts, strict=True)
        return np.concatenate(masks), np.concatenate(ious)


def channels_last(embedding: Embedding) -> tuple[np.ndarray, ...]:
    """Return the parts of an embedding as (h, w, C); none is moved as encoders make them."""
    return tuple(np.ascontiguousarray(part.transpose(1, 2, 0)) for part in embedding)


def prompts_at_once(prompts: Prompts) -> Iterator[Prompts]:
    """Yield as many prompts as are decoded together.

    Each mask makes an image of its own; without masks all prompts share one.
    """
    step = len(prompts) if prompts.masks is None else PROMPTS_AT_ONCE
    for start in range(0, len(prompts), step):
        yield prompts[start : start + step]
