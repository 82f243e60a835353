"""SAM 3's neck in integers: three levels of the last block's tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.runtime import kernels
from carsam.runtime.convolution import Convolution
from carsam.runtime.layers import Linear
from carsam.runtime.patches import unfold_patches
from carsam.runtime.sam2_encoder import Level
from carsam.runtime.strips import strips
from carsam.runtime.weights import Weights

SCALES = [4.0, 2.0, 1.0]
"""Sides of the levels, in sides of the last block's tokens."""


@dataclass(frozen=True)
class Sam3Level:
    """What the neck makes of tokens, and what the decoder's mask head reads of it.

    Args:
        upscaling: transposed convolutions, each of which doubles the image's sides; GELU is
            between two of them.
        lateral: convolution of side 1 behind them.
        around: convolution of side 3 behind it.
        fine: convolution of side 1 at the end; None where the decoder attends to the level.
    """

    upscaling: tuple[Linear, ...]
    lateral: Linear
    around: Convolution
    fine: Linear | None

    def __call__(self, hidden: np.ndarray, size: int) -> np.ndarray:
        """Map (size * size, channels) float32 to an image (h, w, channels) float32."""
        side = size << len(self.upscaling)
        image = kernels.empty((side, side, self.lateral.outputs))
        for first, last in strips(size, size):
            lines = slice(first << len(self.upscaling), last << len(self.upscaling))
            made = self._upscaled(hidden[first * size : last * size], last - first, size)
            rows = self.lateral(made.reshape(-1, made.shape[-1]))
            image[lines] = rows.reshape(image[lines].shape)
        image = self.around(image)
        if self.fine is None:
            return image
        return Level((self.fine,))(image.reshape(side * side, -1)).reshape(side, side, -1)

    def _upscaled(self, rows: np.ndarray, height: int, width: int) -> np.ndarray:
        for place, layer in enumerate(self.upscaling):
            last = place + 1 == len(self.upscaling)
            made = layer(rows.reshape(height * width, -1), None if last else "gelu")
            rows = unfold_patches(made, height, width, 2)
            height, width = 2 * height, 2 * width
        return rows


def read_level(weights: Weights, config: Mapping[str, Any], level: int) -> Sam3Level:
    """Build a level, 0 being the finest; `config` is transformers' `vision_config`."""
    path, channels = f"vision_encoder.neck.fpn_layers.{level}", config["fpn_hidden_size"]
    doublings, inputs = 2 - level, config["backbone_config"]["hidden_size"]
    upscaling = []
    for place in range(doublings):
        name = f"{path}.scale_layers.{2 * place}"  # an activation is between two of them
        upscaling.append(weights.transposed_convolution(name, inputs, 2, inputs // 2))
        inputs //= 2
    fine = None
    if doublings > 0:
        outputs = channels // (8 >> level)
        fine = weights.linear(f"mask_decoder.conv_s{level}", channels, outputs)
    around = weights.convolution(f"{path}.proj2", channels, 3, channels)
    return Sam3Level(
        tuple(upscaling),
        weights.linear(f"{path}.proj1", inputs, channels),
        Convolution(around, 3, 1, 1),
        fine,
    )
