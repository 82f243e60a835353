"""The native engine of a model that follows objects through videos."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from carsam.engines.base import Embedding
from carsam.engines.native_engine import NativeEngine, channels_last, prompts_at_once
from carsam.engines.video import MemoryNumbers, Recollection, Tracked
from carsam.formats.checkpoint import Checkpoint
from carsam.images.prompts import Prompts
from carsam.runtime.grids import Sum
from carsam.runtime.networks import Sam2Video, read_sam2_video, read_sam3_tracker_video
from carsam.runtime.weights import Weights

WITH_MEMORY = {"sam2_video": read_sam2_video, "sam3_tracker_video": read_sam3_tracker_video}
"""Families that this engine runs, and what builds their networks."""


class NativeVideoEngine(NativeEngine):
    """`NativeEngine` with a memory; implements `carsam.engines.video.VideoEngine`."""

    _network: Sam2Video

    def _read(self, weights: Weights, family: str, config: Mapping[str, Any]) -> None:
        self._network = WITH_MEMORY[family](weights, config)
        self.memory = MemoryNumbers.read(config, weights.tensor)

    def recall(self, embedding: Embedding, memory: Recollection | None) -> Embedding:
        """Return the embedding of a frame as the memory of one object makes it."""
        image = channels_last(embedding[:1])[0]
        if memory is None:
            recalled = self._network.without_memory(image)
        else:
            values, positions = (np.asarray(part, np.float32) for part in memory[:2])
            tokens = Sum(values, positions)
            recalled = self._network.attention(image, tokens, memory.cells)
        return recalled.transpose(2, 0, 1), *embedding[1:]

    def track(self, embedding: Embedding, prompts: Prompts, multimask_output: bool) -> Tracked:
        """Return masks and pointers of P objects."""
        images = channels_last(embedding)
        results = [
            self._network.track(images, some, multimask_output) for some in prompts_at_once(prompts)
        ]
        found, pointers = zip(*results, strict=True)
        masks, ious, scores, _ = map(np.concatenate, zip(*found, strict=True))
        return Tracked(masks, ious, scores, np.concatenate(pointers))

    def remember(
        self, embedding: Embedding, masks: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens (P, n, D) and their positions (n, D) for masks (P, S, S)."""
        encoder, image = self._network.memory, channels_last(embedding[:1])[0]
        return encoder(image, np.asarray(masks, np.float32), scores), encoder.positions


def native_engine(checkpoint: Checkpoint, threads: int | None = None) -> NativeEngine:
    """Return the engine that offers all that a checkpoint's model does; see `NativeEngine`."""
    kind = NativeVideoEngine if checkpoint.manifest["family"] in WITH_MEMORY else NativeEngine
    return kind(checkpoint, threads)
