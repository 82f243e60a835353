"""SAM 2's image encoder in integers: Hiera, and a neck that makes three levels of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from carsam.errors import UnsupportedError
from carsam.runtime import kernels
from carsam.runtime.centred import Centred
from carsam.runtime.convolution import Convolution
from carsam.runtime.grids import Tensor
from carsam.runtime.hiera import POOLING, HieraBlock, read_blocks
from carsam.runtime.layers import Linear
from carsam.runtime.positions import image_positions
from carsam.runtime.strips import strips
from carsam.runtime.weights import Weights


@dataclass(frozen=True)
class Level:
    """Convolutions of side 1, one after the other."""

    layers: tuple[Linear | Centred, ...]

    @property
    def outputs(self) -> int:
        """Channels of the level."""
        return self.layers[-1].outputs

    def __call__(self, hidden: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        """Map tokens (rows, channels) float32 to (rows, channels of the level) float32.

        Args:
            into: gets the result.
        """
        result = kernels.empty((len(hidden), self.outputs)) if into is None else into
        for first, last in strips(len(hidden), 1):
            tensor: Tensor = hidden[first:last]
            for layer, following in pairwise(self.layers):
                grid = following.input if isinstance(following, Linear) else None
                tensor = layer.to_grid(tensor, grid)
            self.layers[-1](tensor, into=result[first:last])
        return result


@dataclass(frozen=True)
class Sam2Encoder:
    """The image encoder.

    Args:
        side: tokens along a side of the image in the first of the four stages; each of the others
            has half as many.
        positions: (tokens of the first stage, channels) float32.
        stages: Hiera's blocks.
        levels: what is made of each stage.
    """

    side: int
    patch_embedding: Convolution
    positions: np.ndarray
    stages: tuple[tuple[HieraBlock, ...], ...]
    levels: tuple[Level, ...]

    @property
    def size(self) -> int:
        """Side of the embedding that the decoder attends to."""
        return self.side // 4

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Map pixels (3, S, S) float32 to what the decoder reads, all float32.

        Returns:
            The embedding (C, size, size), then the finer levels (C / 4, 2 size, 2 size) and
            (C / 8, 4 size, 4 size). In memory they stay token by token.
        """
        finest, hidden = self._first_stage(pixels.transpose(1, 2, 0))
        made, side = [finest], self.side
        for blocks, level in zip(self.stages[1:], self.levels[1:], strict=True):
            for block in blocks:
                if block is not self._entry:
                    hidden = block(hidden, side)
                side //= block.stride
            made.append(level(hidden))
        finest, finer, embedding, coarse = made
        doubled = embedding.reshape(side, 2, side, 2, -1)
        doubled += coarse.reshape(side, 1, side, 1, -1)
        return tuple(
            level.T.reshape(level.shape[1], size, size)
            for level, size in ((embedding, 2 * side), (finer, 4 * side), (finest, 8 * side))
        )

    @property
    def _entry(self) -> HieraBlock:
        """The block that makes the second stage's tokens of the first one's."""
        return self.stages[1][0]

    def _first_stage(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the finest level of an image (S, S, 3), and the tokens that the entry makes.

        The tokens of the first stage, 25 MB of Tiny's, exist a strip at a time.
        """
        side, level = self.side, self.levels[0]
        finest = kernels.empty((side * side, level.outputs))
        pooled = (side // self._entry.stride) ** 2
        hidden = kernels.empty((pooled, self._entry.projection.outputs))
        windows = [block.window for block in (*self.stages[0], self._entry)]
        for first, last in strips(side, side, max(windows) if all(windows) else side):
            own, size = slice(first * side, last * side), (last - first, side)
            tokens = self.patch_embedding.lines(image, first, last, self.positions[own])
            for block in self.stages[0]:
                block.strip(tokens, tokens, size)
            level(tokens, into=finest[own])
            self._entry.strip(tokens, hidden[self._entry.place(first, last, side)], size)
        return finest, hidden


def read_sam2_encoder(weights: Weights, config: Mapping[str, Any], image_side: int) -> Sam2Encoder:
    """Build the encoder of a checkpoint; `config` is transformers' `vision_config`.

    Raises:
        UnsupportedError: sizes that do not fit each other, or other levels than SAM 2's.
    """
    backbone, channels = config["backbone_config"], config["fpn_hidden_size"]
    patch, stride, margin = (
        _one(backbone, f"patch_{name}") for name in ("kernel_size", "stride", "padding")
    )
    _check_levels(config)
    _check_sizes(backbone, image_side, (patch, stride, margin))
    root, side = "vision_encoder.backbone", image_side // stride
    widths = backbone["embed_dim_per_stage"]
    height, width = _both(backbone, "window_positional_embedding_background_size")
    window = backbone["window_size_per_stage"][0]
    positions = image_positions(
        weights.tensor(f"{root}.pos_embed", 1, widths[0], height, width)[0],
        weights.tensor(f"{root}.pos_embed_window", 1, widths[0], window, window)[0],
        side,
    )
    convolution = weights.convolution(
        f"{root}.patch_embed.projection", backbone["num_channels"], patch, widths[0]
    )
    laterals = [
        weights.map_convolution(
            f"vision_encoder.neck.convs.{3 - stage}", widths[stage], 1, channels, side >> stage
        )
        for stage in range(4)
    ]
    finest, finer = (
        weights.map_convolution(
            f"mask_decoder.conv_s{level}", channels, 1, channels // (8 >> level), side >> level
        )
        for level in (0, 1)
    )
    return Sam2Encoder(
        side,
        Convolution(convolution.rounded_once(), patch, stride, margin),
        positions,
        read_blocks(weights, backbone, root, side),
        (
            Level((laterals[0], finest)),
            Level((laterals[1], finer)),
            Level((laterals[2],)),
            Level((laterals[3],)),
        ),
    )


def _check_levels(config: Mapping[str, Any]) -> None:
    backbone = config["backbone_config"]
    levels = config["num_feature_levels"], list(config["fpn_top_down_levels"])
    stages, strides = len(backbone["blocks_per_stage"]), backbone["num_query_pool_stages"]
    if (*levels, stages, strides, _one(backbone, "query_stride")) != (3, [2, 3], 4, 3, POOLING):
        raise UnsupportedError(
            "The native engine runs SAM 2 with 4 stages, each half as wide and high as the one "
            "before, and 3 levels, [2, 3] of them with what is coarser added. Use --engine "
            "simulated."
        )


def _check_sizes(
    backbone: Mapping[str, Any], image_side: int, patches: tuple[int, int, int]
) -> None:
    """Refuse an image that the patches, the stages or pooled windows do not divide."""
    patch, stride, margin = patches
    side, windows = image_side // stride, backbone["window_size_per_stage"]
    if (image_side + 2 * margin - patch) // stride + 1 != side or side % 8 or side % windows[0]:
        raise UnsupportedError(
            f"The native engine has no SAM 2 of {image_side} pixels with patches of side {patch}, "
            f"stride {stride} and margin {margin}, windows of {windows[0]} and 4 stages; none of "
            "them may leave a remainder. Use --engine simulated."
        )
    if any(window % 2 for window in windows[:3]) or len(set(backbone["embed_dim_per_stage"])) < 4:
        raise UnsupportedError(
            f"The native engine pools windows of even sides only, between stages of different "
            f"widths; found {windows[:3]} and {backbone['embed_dim_per_stage']}. Use --engine "
            "simulated."
        )


def _one(config: Mapping[str, Any], key: str) -> int:
    """A count that is given once, or for height and width alike."""
    height, width = _both(config, key)
    if height != width:
        raise UnsupportedError(
            f"The native engine needs one {key} for height and width; found {height} and {width}. "
            "Use --engine simulated."
        )
    return height


def _both(config: Mapping[str, Any], key: str) -> tuple[int, int]:
    value = config[key]
    height, width = (value, value) if isinstance(value, int) else value
    return height, width
