"""The native engine: a checkpoint run in integers, without torch."""

from functools import cached_property

import numpy as np

from carsam.engines.base import Embedding
from carsam.errors import UnsupportedError, UserError
from carsam.formats.checkpoint import Checkpoint
from carsam.images.preprocess import Framing
from carsam.images.prompts import Prompts
from carsam.runtime import kernels
from carsam.runtime.decoder import read_mask_decoder
from carsam.runtime.encoder import read_encoder
from carsam.runtime.prompt_encoder import read_prompt_encoder
from carsam.runtime.two_way import PROMPTS_AT_ONCE, Tokens
from carsam.runtime.weights import Weights

FAMILIES = ("sam",)
"""Families whose checkpoints this engine runs."""

ARITHMETIC = 1
"""Raised when the encoder's results change, so that old embeddings on disk are not used."""


class NativeEngine:
    """Runs a checkpoint of the SAM family; implements `carsam.engines.base.Engine`.

    Args:
        threads: of every native engine in this process; by default those of `carsam.threads`.

    Raises:
        UserError: the family or a grid of the checkpoint is not supported, or a part is missing.
    """

    mode = "native"

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None) -> None:
        self._checkpoint = checkpoint
        manifest = checkpoint.manifest
        if manifest["family"] not in FAMILIES:
            raise UnsupportedError(
                f"The native engine runs the families {', '.join(FAMILIES)}; the checkpoint is of "
                f"family {manifest['family']}. Use --engine simulated."
            )
        config, weights = manifest["model_config"], Weights(checkpoint)
        try:
            self._encoder = read_encoder(weights, config["vision_config"])
            self._prompt_encoder = read_prompt_encoder(weights, config)
            self._decoder = read_mask_decoder(
                weights, config["mask_decoder_config"], self._encoder.size
            )
            self.framing = Framing(config["vision_config"]["image_size"])
        except KeyError as error:
            raise UserError(
                f"The checkpoint's model configuration lacks {error}. Quantize the model again."
            ) from error
        if threads is not None:
            kernels.set_threads(threads)
        self._image_positions = self._prompt_encoder.positions.of_image(self._encoder.size)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything that decides what `encode` makes of an image."""
        return f"native {ARITHMETIC} {self._checkpoint.fingerprint}"

    @property
    def threads(self) -> int:
        """The threads it computes with."""
        return kernels.threads()

    def encode(self, pixels: np.ndarray) -> Embedding:
        """Return the image embedding of normalised, padded `pixels` (3, S, S) float32."""
        expected = (3, self.framing.side, self.framing.side)
        if pixels.shape != expected:
            raise UserError(f"Pixels of shape {pixels.shape}; this model expects {expected}.")
        return (self._encoder(np.asarray(pixels, np.float32)),)

    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4h, 4w) and predicted IoUs (P, M), float32."""
        image = np.ascontiguousarray(embedding[0].reshape(len(embedding[0]), -1).T)  # (h * w, C)
        # Each mask makes an image of its own; without masks all prompts share one.
        step = len(prompts) if prompts.masks is None else PROMPTS_AT_ONCE
        parts = [
            self.decode_tokens(
                image, *self._prompt_encoder(prompts[start : start + step]), multimask_output
            )
            for start in range(0, len(prompts), step)
        ]
        masks, ious = zip(*parts, strict=True)
        return np.concatenate(masks), np.concatenate(ious)

    def decode_tokens(
        self, image: np.ndarray, tokens: np.ndarray, dense: np.ndarray, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4h, 4w) and predicted IoUs (P, M) of encoded prompts.

        Args:
            image: the embedding, (h w, C).
            tokens: of points and boxes, (P, T, C).
            dense: what masks add to the image: (P, h w, C), or (h w, C) or (C,) for all prompts.
        """
        placed = image + dense
        shared = placed if placed.ndim == 3 else placed[None]
        positions = self._image_positions[None]
        return self._decoder(Tokens(shared, positions), tokens, multimask_output)
