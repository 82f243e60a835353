"""What every engine offers, whichever arithmetic it uses: encode an image, decode prompts."""

from typing import Protocol, runtime_checkable

import numpy as np

from carsam.images.preprocess import Framing
from carsam.images.prompts import Prompts

Embedding = tuple[np.ndarray, ...]
"""Embedding of one image: (C, h, w) float32 first, then what else the decoder reads."""


@runtime_checkable
class Engine(Protocol):
    """Runs one model.

    `mode` names the arithmetic as results report it: `float`, `simulated`, `native`, `legacy` (with
    the published faults) or `unfinished` (not with the grids that its recipe asks for).
    `framing` says how the square input S x S is filled.
    """

    mode: str
    framing: Framing

    def encode(self, pixels: np.ndarray) -> Embedding:
        """Return the image embedding of normalised, padded `pixels` (3, S, S) float32."""
        ...

    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4h, 4w) and predicted IoUs (P, M), float32.

        M is 3 with `multimask_output`, else 1.
        """
        ...
