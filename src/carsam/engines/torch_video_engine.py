"""The torch engine of a model that follows objects through videos."""

from functools import cached_property
from typing import Any, cast

import numpy as np
import torch

from carsam.engines.base import Embedding
from carsam.engines.torch_engine import TorchEngine
from carsam.engines.video import MemoryNumbers, Recollection, Tracked
from carsam.families import video
from carsam.families.base import Family
from carsam.families.video import VideoFamily
from carsam.images.prompts import Prompts


class TorchVideoEngine(TorchEngine):
    """`TorchEngine` with a memory; implements `carsam.engines.video.VideoEngine`."""

    @cached_property
    def memory(self) -> MemoryNumbers:
        """The numbers of a session with this model."""
        parameters = dict(self.module.named_parameters())

        def numbers(name: str) -> np.ndarray:
            return cast(np.ndarray, parameters[name].detach().float().cpu().numpy())

        return MemoryNumbers.read(self.module.config.to_dict(), numbers)

    @torch.inference_mode()
    def recall(self, embedding: Embedding, memory: Recollection | None) -> Embedding:
        """Return the embedding of a frame as the memory of one object makes it."""
        recalled = None
        if memory is not None:
            values, positions = (self._tensor(part)[None] for part in memory[:2])
            cells = torch.from_numpy(memory.cells).to(self.device)
            recalled = video.Recollection(values, positions, cells)
        parts = self._family.recall(self.module, self._parts(embedding), recalled)
        return tuple(part[0].float().cpu().numpy() for part in parts)

    @torch.inference_mode()
    def track(self, embedding: Embedding, prompts: Prompts, multimask_output: bool) -> Tracked:
        """Return masks and pointers of P objects."""
        parts = self._parts(embedding)
        results = [
            self._family.track(self.module, parts, multimask_output, **given)
            for given in self._given(prompts)
        ]
        masks, ious, scores, pointers = (
            torch.cat([result[part][0] for result in results]).float().cpu().numpy()
            for part in range(4)
        )
        return Tracked(masks, ious, scores, pointers)

    @torch.inference_mode()
    def remember(
        self, embedding: Embedding, masks: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens (P, n, D) and their positions (n, D) for masks (P, S, S)."""
        tokens, positions = self._family.remember(
            self.module, self._parts(embedding), self._tensor(masks)[:, None], self._tensor(scores)
        )
        return tokens.float().cpu().numpy(), positions.float().cpu().numpy()

    @property
    def _family(self) -> VideoFamily:
        return cast(VideoFamily, self.family)


def torch_engine(
    family: Family, module: Any, mode: str, device: str | torch.device = "cpu"
) -> TorchEngine:
    """Return the engine that offers all that a family does."""
    kind = TorchVideoEngine if hasattr(family, "recall") else TorchEngine
    return kind(family, module, mode, device)
