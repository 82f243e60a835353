"""Whole models of the native engine, built from checkpoints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from carsam.images.preprocess import Framing
from carsam.images.prompts import Prompts
from carsam.runtime.decoder import MaskDecoder, read_mask_decoder
from carsam.runtime.encoder import Encoder, read_encoder
from carsam.runtime.prompt_encoder import PromptEncoder, read_prompt_encoder
from carsam.runtime.sam2_decoder import Sam2MaskDecoder, read_sam2_decoder
from carsam.runtime.sam2_encoder import Sam2Encoder, read_sam2_encoder
from carsam.runtime.two_way import Tokens
from carsam.runtime.weights import Weights

Parts = tuple[np.ndarray, ...]
"""The embedding's parts as images (h, w, C) float32, the one that the decoder attends to first."""


@dataclass(frozen=True)
class Sam:
    """SAM: encoder, prompt encoder and decoder."""

    framing: Framing
    encoder: Encoder
    prompt_encoder: PromptEncoder
    decoder: MaskDecoder

    def encode(self, pixels: np.ndarray) -> Parts:
        """Map pixels (3, S, S) float32 to the embedding's only part, (C, h, w)."""
        return (self.encoder(pixels),)

    def decode(
        self, parts: Parts, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4h, 4w) and predicted IoUs (P, M), float32."""
        tokens, dense = self.prompt_encoder(prompts)
        image = _placed(parts[0], dense, self._positions)
        return self.decoder(image, tokens, multimask_output)

    @cached_property
    def _positions(self) -> np.ndarray:
        return self.prompt_encoder.positions.of_image(self.encoder.size)


@dataclass(frozen=True)
class Sam2:
    """SAM 2 for images.

    Args:
        no_memory: (C,) float32, added to an embedding that no other frames came before.
    """

    framing: Framing
    encoder: Sam2Encoder
    prompt_encoder: PromptEncoder
    decoder: Sam2MaskDecoder
    no_memory: np.ndarray

    def encode(self, pixels: np.ndarray) -> Parts:
        """Map pixels (3, S, S) float32 to (C, h, w), (C / 4, 2h, 2w) and (C / 8, 4h, 4w)."""
        return self.encoder(pixels)

    def decode(
        self, parts: Parts, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4h, 4w) and predicted IoUs (P, M), float32."""
        tokens, dense = self.prompt_encoder(prompts)
        image, finer, finest = parts
        placed = _placed(image + self.no_memory, dense, self._positions)
        found = self.decoder(placed, tokens, multimask_output, (finer, finest))
        return found.masks, found.ious

    @cached_property
    def _positions(self) -> np.ndarray:
        return self.prompt_encoder.positions.of_image(self.encoder.size)


Network = Sam | Sam2


def read_sam(weights: Weights, config: Mapping[str, Any]) -> Sam:
    """Build a SAM; `config` is transformers' whole configuration."""
    vision, side = config["vision_config"], config["vision_config"]["image_size"]
    encoder = read_encoder(weights, vision)
    return Sam(
        Framing(side),
        encoder,
        read_prompt_encoder(weights, config["prompt_encoder_config"], side, is_sam2=False),
        read_mask_decoder(weights, config["mask_decoder_config"], encoder.size),
    )


def read_sam2(weights: Weights, config: Mapping[str, Any]) -> Sam2:
    """Build a SAM 2 for images, also of one for videos; `config` is transformers' whole one."""
    prompts = config["prompt_encoder_config"]
    side, channels = prompts["image_size"], prompts["hidden_size"]
    encoder = read_sam2_encoder(weights, config["vision_config"], side)
    return Sam2(
        Framing(side, stretched=True),
        encoder,
        read_prompt_encoder(weights, prompts, side, is_sam2=True),
        read_sam2_decoder(weights, config["mask_decoder_config"], encoder.size),
        weights.tensor("no_memory_embedding", 1, 1, channels)[0, 0],
    )


READERS: dict[str, Callable[[Weights, Mapping[str, Any]], Network]] = {
    "sam": read_sam,
    "sam2": read_sam2,
    "sam2_video": read_sam2,
}
"""What builds a checkpoint of a family, by the family's name."""


def _placed(image: np.ndarray, dense: np.ndarray, positions: np.ndarray) -> Tokens:
    """Return image (h, w, C) with dense prompts, of P groups (P, h * w, C) or shared by all (C,)."""
    placed = image.reshape(-1, image.shape[2]) + dense
    return Tokens(placed if placed.ndim == 3 else placed[None], positions[None])
