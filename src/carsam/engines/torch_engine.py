"""The torch engine: a float or a simulated model as an engine."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from carsam.engines.base import Embedding
from carsam.families.base import Family
from carsam.formats.checkpoint import Checkpoint
from carsam.formats.mask_thresholds import MaskThresholds
from carsam.images.prompts import Prompts
from carsam.simulation.model import QuantizedModel


class TorchEngine:
    """Runs a transformers model, quantized or not.

    Args:
        family: of the model.
        module: the model, float or prepared and quantized.
        mode: of `QuantizedModel.mode`, as results report it.
        device: where to run; the model is moved there.

    Attributes:
        mask_thresholds: of everything mode, where they were recorded for this model.
    """

    mask_thresholds: MaskThresholds | None = None

    def __init__(
        self, family: Family, module: Any, mode: str, device: str | torch.device = "cpu"
    ) -> None:
        self.family, self.mode, self.device = family, mode, torch.device(device)
        self.module = module.to(self.device)
        self.framing = family.framing(module.config)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything that decides what `encode` makes of an image.

        Raises:
            UserError: the model is a legacy one, whose results are random.
        """
        if self.mode == "float":
            tensors = {name: t.cpu().numpy() for name, t in self.module.state_dict().items()}
            manifest = {"family": self.family.name, "sites": {}}
            manifest["model_config"] = self.module.config.to_dict()
            checkpoint = Checkpoint(manifest, tensors)
        else:
            checkpoint = QuantizedModel(self.family, self.module).to_checkpoint()
        versions = f"torch {torch.__version__} transformers {transformers.__version__}"
        return f"{self.mode} {versions} {self.device.type} {checkpoint.fingerprint}"

    @property
    def threads(self) -> int:
        """The threads it computes with."""
        return torch.get_num_threads()

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> Embedding:
        """Return the image embedding of normalised, padded `pixels` (3, S, S) float32."""
        embedding = self.family.encode(self.module, self._tensor(pixels)[None])
        return tuple(part[0].float().cpu().numpy() for part in embedding)

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4h, 4w) and predicted IoUs (P, M), float32."""
        parts = self._parts(embedding)
        results = [
            self.family.decode(self.module, parts, multimask_output, **given)
            for given in self._given(prompts)
        ]
        logits, ious = (torch.cat([r[part][0] for r in results]) for part in (0, 1))
        return logits.float().cpu().numpy(), ious.float().cpu().numpy()

    def _parts(self, embedding: Embedding) -> tuple[Tensor, ...]:
        return tuple(self._tensor(part)[None] for part in embedding)

    def _given(self, prompts: Prompts) -> list[dict[str, Tensor]]:
        """Return prompts as a family's `decode` takes them, in groups that it decodes at once.

        transformers adds the mask prompts to the embedding before it repeats it per prompt, so
        prompts with different masks are decoded one by one.
        """
        given: dict[str, Tensor] = {}
        if prompts.points is not None and prompts.labels is not None:
            given["input_points"] = self._tensor(prompts.points)[None]
            given["input_labels"] = torch.from_numpy(prompts.labels)[None].to(self.device)
        if prompts.boxes is not None:
            given["input_boxes"] = self._tensor(prompts.boxes)[None]
        if prompts.masks is None:
            return [given]
        return [
            {name: tensor[:, index : index + 1] for name, tensor in given.items()}
            | {"input_masks": self._tensor(mask)[None, None]}
            for index, mask in enumerate(prompts.masks)
        ]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.device)
