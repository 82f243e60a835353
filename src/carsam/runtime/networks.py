"""Whole models of the native engine, built from checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.images.preprocess import GREY, Framing
from carsam.images.prompts import Prompts
from carsam.runtime.decoder import (
    FeedForward,
    MaskDecoder,
    read_feed_forward,
    read_mask_decoder,
)
from carsam.runtime.encoder import Encoder, read_encoder
from carsam.runtime.memory_attention import MemoryAttention, read_memory_attention
from carsam.runtime.memory_encoder import MemoryEncoder, read_memory_encoder
from carsam.runtime.prompt_encoder import (
    IMAGE_POSITIONS,
    PromptEncoder,
    read_positions,
    read_prompt_encoder,
)
from carsam.runtime.sam2_decoder import Decoded, Sam2MaskDecoder, read_sam2_decoder
from carsam.runtime.sam2_encoder import Sam2Encoder, read_sam2_encoder
from carsam.runtime.sam3_encoder import Sam3Encoder, read_sam3_encoder
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
    """SAM 2 for images, or SAM 3's tracker.

    Args:
        positions: (h * w, C) float32, of the embedding's tokens.
        no_memory: (C,) float32, added to an embedding that no other frames came before.
    """

    framing: Framing
    encoder: Sam2Encoder | Sam3Encoder
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
        placed = self.without_memory(parts[0]), *parts[1:]
        found = self._decoded(self.decoder, placed, prompts, multimask_output)
        return found.masks, found.ious

    def without_memory(self, image: np.ndarray) -> np.ndarray:
        """Return an embedding (h, w, C) that no other frames came before."""
        return image + self.no_memory

    def _decoded(
        self, decoder: Sam2MaskDecoder, parts: Parts, prompts: Prompts, multimask_output: bool
    ) -> Decoded:
        """Decode on an embedding that holds a memory, or what stands for none."""
        tokens, dense = self.prompt_encoder(prompts)
        image, finer, finest = parts
        placed = _placed(image, dense, self.positions)
        return decoder(placed, tokens, multimask_output, (finer, finest))


@dataclass(frozen=True)
class Sam2Video(Sam2):
    """SAM 2 with its memory.

    Args:
        tracker: the decoder, whose results do not depend on the order of a sum.
        pointer: makes an object's pointer of its mask's token.
    """

    attention: MemoryAttention
    tracker: Sam2MaskDecoder
    pointer: FeedForward
    memory: MemoryEncoder

    def track(
        self, parts: Parts, prompts: Prompts, multimask_output: bool
    ) -> tuple[Decoded, np.ndarray]:
        """Return what is found of P objects, and a pointer for each of its masks (P, M, C).

        With one mask it is the first token's, whichever mask was chosen.

        Args:
            parts: channels last, the first with a memory or with what stands for none.
        """
        found = self._decoded(self.tracker, parts, prompts, multimask_output)
        tokens = found.tokens
        pointers = self.pointer(tokens.reshape(-1, tokens.shape[2]))
        asked = slice(1, None) if multimask_output else slice(1)
        return found, pointers.reshape(*tokens.shape[:2], -1)[:, asked]


def read_sam(weights: Weights, config: Mapping[str, Any]) -> Sam:
    """Build a SAM; `config` is transformers' whole configuration."""
    vision, prompts = config["vision_config"], config["prompt_encoder_config"]
    side = vision["image_size"]
    encoder = read_encoder(weights, vision)
    prompt_encoder = read_prompt_encoder(weights, prompts, side, is_sam2=False)
    positions = prompt_encoder.positions.of_image(encoder.size)
    return Sam(
        Framing(side),
        encoder,
        prompt_encoder,
        read_mask_decoder(weights, config["mask_decoder_config"], encoder.size, positions),
        positions,
    )


def read_sam2(weights: Weights, config: Mapping[str, Any]) -> Sam2:
    """Build a SAM 2 for images, also from one for videos; `config` is the whole configuration."""
    side = config["prompt_encoder_config"]["image_size"]
    encoder = read_sam2_encoder(weights, config["vision_config"], side)
    return _with_decoder(weights, config, Framing(side, stretched=True), encoder)


def read_sam3_tracker(weights: Weights, config: Mapping[str, Any]) -> Sam2:
    """Build SAM 3's tracker for images, also from one for videos."""
    side = config["prompt_encoder_config"]["image_size"]
    encoder = read_sam3_encoder(weights, config["vision_config"], side)
    framing = Framing(side, stretched=True, mean=GREY, deviation=GREY)
    return _with_decoder(weights, config, framing, encoder)


def _with_decoder(
    weights: Weights,
    config: Mapping[str, Any],
    framing: Framing,
    encoder: Sam2Encoder | Sam3Encoder,
) -> Sam2:
    prompts, side = config["prompt_encoder_config"], framing.side
    channels = prompts["hidden_size"]
    positions = read_positions(weights, IMAGE_POSITIONS, channels).of_image(encoder.size)
    return Sam2(
        framing,
        encoder,
        read_prompt_encoder(weights, prompts, side, is_sam2=True),
        read_sam2_decoder(weights, config["mask_decoder_config"], encoder.size, positions),
        positions,
        weights.tensor("no_memory_embedding", 1, 1, channels)[0, 0],
    )


def read_sam2_video(weights: Weights, config: Mapping[str, Any]) -> Sam2Video:
    """Build a SAM 2 with its memory; `config` is the whole configuration."""
    return _with_memory(weights, config, read_sam2(weights, config))


def read_sam3_tracker_video(weights: Weights, config: Mapping[str, Any]) -> Sam2Video:
    """Build SAM 3's tracker with its memory."""
    return _with_memory(weights, config, read_sam3_tracker(weights, config))


def _with_memory(weights: Weights, config: Mapping[str, Any], image_model: Sam2) -> Sam2Video:
    size, channels = image_model.encoder.size, config["memory_attention_hidden_size"]
    return Sam2Video(
        **vars(image_model),
        attention=read_memory_attention(weights, config, size),
        tracker=image_model.decoder.rounded_once(),
        pointer=read_feed_forward(weights, "object_pointer_proj", (channels,) * 4).rounded_once(),
        memory=read_memory_encoder(weights, config, size),
    )


def _placed(image: np.ndarray, dense: np.ndarray, positions: np.ndarray) -> Tokens:
    """Return an image (h, w, C) with dense prompts (P, h * w, C), or (C,) that all share."""
    placed = image.reshape(-1, image.shape[2]) + dense
    return Tokens(placed if placed.ndim == 3 else placed[None], positions[None])
