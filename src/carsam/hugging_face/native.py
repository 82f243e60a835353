"""The native engine behind the names of transformers' SamModel.

Encoder and mask decoder compute in integers on the CPU, without gradients; the prompt encoder,
which is float in both engines, stays the simulation's.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.sam.modeling_sam import SamVisionEncoderOutput

from carsam.errors import UserError
from carsam.formats.checkpoint import Checkpoint
from carsam.runtime.networks import Sam, read_sam
from carsam.runtime.two_way import Tokens
from carsam.runtime.weights import Weights


def run_natively_(model: Any, checkpoint: Checkpoint) -> None:
    """Give a SamModel the native engine; the weights that it no longer needs are let go.

    Raises:
        UserError: the model is another than SAM, or the engine lacks a grid of the checkpoint.
    """
    manifest = checkpoint.manifest
    if manifest["family"] != "sam":
        raise UserError(
            f'engine="native" stands behind SamModel only; this is a {type(model).__name__}. Load '
            "it without, or run it with carsam.SamPredictor."
        )
    network = read_sam(Weights(checkpoint), manifest["model_config"])
    model.vision_encoder = NativeVisionEncoder(network)
    model.mask_decoder = NativeMaskDecoder(network)


class NativeVisionEncoder(nn.Module):
    """Stands for SamVisionEncoder."""

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self._network = network

    def forward(self, pixel_values: Tensor, **_: Any) -> SamVisionEncoderOutput:
        """Return the embeddings (B, C, h, w) of pixels (B, 3, S, S)."""
        side = self._network.framing.side
        if pixel_values.shape[1:] != (3, side, side):
            raise UserError(
                f"Pixels of shape {tuple(pixel_values.shape)}; expected (B, 3, {side}, {side})."
            )
        pixels = pixel_values.detach().cpu().numpy()
        embeddings = np.stack([self._network.encode(image)[0] for image in pixels])
        return SamVisionEncoderOutput(
            last_hidden_state=torch.from_numpy(embeddings).to(pixel_values.device)
        )


class NativeMaskDecoder(nn.Module):
    """Stands for SamMaskDecoder."""

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self._network = network

    def forward(
        self,
        image_embeddings: Tensor,
        image_positional_embeddings: Tensor,
        sparse_prompt_embeddings: Tensor | None,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        attention_similarity: Tensor | None = None,
        target_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits (B, P, M, 4h, 4w) and predicted IoUs (B, P, M)."""
        if attention_similarity is not None or target_embedding is not None:
            raise UserError(
                "The native engine has no attention_similarity and no target_embedding; load the "
                'model with engine="simulated".'
            )
        images = _tokens(image_embeddings + dense_prompt_embeddings)
        count, _, channels = images.shape
        prompts = np.zeros((count, 1, 0, channels), np.float32)  # of a mask alone: no token
        if sparse_prompt_embeddings is not None:
            prompts = sparse_prompt_embeddings.detach().cpu().numpy()
        decoded = [
            self._network.decoder(
                Tokens(image[None], self._network.positions[None]), tokens, multimask_output
            )
            for image, tokens in zip(images, prompts, strict=True)
        ]
        device = image_embeddings.device
        masks, ious = (
            torch.from_numpy(np.stack(parts)).to(device) for parts in zip(*decoded, strict=True)
        )
        return masks, ious


def _tokens(images: Tensor) -> np.ndarray:
    """Turn (B, C, h, w) into (B, h w, C)."""
    return images.detach().flatten(2).transpose(1, 2).contiguous().cpu().numpy()
