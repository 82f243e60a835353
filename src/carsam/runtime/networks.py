"""Whole models of the native engine, built from checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.images.preprocess import Framing
from carsam.images.prompts import Prompts
from carsam.runtime.decoder import MaskDecoder, read_mask_decoder
from carsam.runtime.encoder import Encoder, read_encoder
from carsam.runtime.prompt_encoder import (
    IMAGE_POSITIONS,
    PromptEncoder,
    read_positions,
    read_prompt_encoder,
)
from carsam.runtime.sam2_decoder import Sam2MaskDecoder, read_sam2_decoder
from carsam.runtime.sam2_encoder import Sam2Encoder, read_sam2_encoder
from carsam.runtime.two_way import Tokens
from carsam.runtime.weights import Weights

Parts = tuple[np.ndarray, ...]
"""The parts of an embedding, float32, the one that the decoder attends to first."""


@dataclass(frozen=True)
class Sam:
    """SAM.

    Args:
        positions: (h * w, C) float32, of the embedding's tokens.
    """

    framing: Framing
    encoder: Encoder
    prompt_encoder: PromptEncoder
    decoder: MaskDecoder
    positions: np.ndarray

    def encode(self, pixels: np.ndarray) -> Parts:
        """Map pixels (3, S, S) float32 to the embedding (C, h, w), its only part."""
        return (self.encoder(pixels),)

    def decode(
        self, parts: Parts, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4h, 4w) and predicted IoUs (P, M), float32.

        Args:
            parts: of `encode`, channels last.
        """
        tokens, dense = self.prompt_encoder(prompts)
        image = _placed(parts[0], dense, self.positions)
        return self.decoder(image, tokens, multimask_output)


@dataclass(frozen=True)
class Sam2:
    """SAM 2 for images.

    Args:
        positions: (h * w, C) float32, of the embedding's tokens.
        no_memory: (C,) float32, added to an embedding that no other frames came before.
    """

    framing: Framing
    encoder: Sam2Encoder
    prompt_encoder: PromptEncoder
    decoder: Sam2MaskDecoder
    positions: np.ndarray
    no_memory: np.ndarray

    def encode(self, pixels: np.ndarray) -> Parts:
        """Map pixels (3, S, S) float32 to (C, h, w), (C / 4, 2h, 2w) and (C / 8, 4h, 4w)."""
        return self.encoder(pixels)

    def decode(
        self, parts: Parts, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4h, 4w) and predicted IoUs (P, M), float32.

        Args:
            parts: of `encode`, channels last.
        """
        tokens, dense = self.prompt_encoder(prompts)
        image, finer, finest = parts
        placed = _placed(image + self.no_memory, dense, self.positions)
        found = self.decoder(placed, tokens, multimask_output, (finer, finest))
        return found.masks, found.ious


def read_sam(weights: Weights, config: Mapping[str, Any]) -> Sam:
    """Build a SAM; `config` is transformers' whole configuration."""
    vision, prompts = config["vision_config"], config["prompt_encoder_config"]
    side = vision["image_size"]
    encoder = read_encoder(weights, vision)
    prompt_encoder = read_prompt_encoder(weights, prompts, side, is_sam2=False)
    return Sam(
        Framing(side),
        encoder,
        prompt_encoder,
        read_mask_decoder(weights, config["mask_decoder_config"], encoder.size),
        prompt_encoder.positions.of_image(encoder.size),
    )


def read_sam2(weights: Weights, config: Mapping[str, Any]) -> Sam2:
    """Build a SAM 2 for images, also from one for videos; `config` is the whole configuration."""
    prompts = config["prompt_encoder_config"]
    side, channels = prompts["image_size"], prompts["hidden_size"]
    encoder = read_sam2_encoder(weights, config["vision_config"], side)
    return Sam2(
        Framing(side, stretched=True),
        encoder,
        read_prompt_encoder(weights, prompts, side, is_sam2=True),
        read_sam2_decoder(weights, config["mask_decoder_config"], encoder.size),
        read_positions(weights, IMAGE_POSITIONS, channels).of_image(encoder.size),
        weights.tensor("no_memory_embedding", 1, 1, channels)[0, 0],
    )


def _placed(image: np.ndarray, dense: np.ndarray, positions: np.ndarray) -> Tokens:
    """Return an image (h, w, C) with dense prompts (P, h * w, C), or (C,) that all share."""
    placed = image.reshape(-1, image.shape[2]) + dense
    return Tokens(placed if placed.ndim == 3 else placed[None], positions[None])
