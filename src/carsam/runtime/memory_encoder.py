"""SAM 2's memory encoder: tokens of what was found in a frame, from its embedding and a mask.

Ravi et al., SAM 2 (arXiv 2408.00714), section 4, "memory encoder"; its fuser's blocks are those of
ConvNeXt (Liu et al., arXiv 2201.03545).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.errors import UnsupportedError
from carsam.runtime.convolution import Convolution, DepthwiseConvolution
from carsam.runtime.layers import Linear, Norm
from carsam.runtime.positions import sine_positions
from carsam.runtime.weights import Weights, activation_name

NORM_EPSILON = 1e-6


@dataclass(frozen=True)
class MaskDownsampler:
    """Convolutions that shrink a mask to the embedding's size, each with a norm; and a last one."""

    layers: tuple[tuple[Convolution, Norm], ...]
    activation: str
    last: Linear

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Map a mask (S, S) float32 to (size * size, C) float32."""
        image = mask[:, :, None]
        for convolution, norm in self.layers:
            image = norm(convolution(image), self.activation)
        return self.last(image.reshape(-1, image.shape[2]))


@dataclass(frozen=True)
class FuserBlock:
    """A depthwise convolution and a two-layer perceptron, scaled and added to their input.

    Args:
        scale: (C,) float32.
    """

    depthwise: DepthwiseConvolution
    norm: Norm
    mlp_in: Linear
    mlp_out: Linear
    activation: str
    scale: np.ndarray

    def __call__(self, fused: np.ndarray, size: int) -> np.ndarray:
        """Map size * size tokens (rows, C) float32."""
        spread = self.depthwise(fused.reshape(size, size, -1)).reshape(fused.shape)
        normalised = self.norm.to_grid(spread, self.mlp_in.input)
        expanded = self.mlp_in.to_grid(normalised, self.mlp_out.input, self.activation)
        result = self.mlp_out(expanded)
        result *= self.scale
        result += fused
        return result


@dataclass(frozen=True)
class MemoryEncoder:
    """The memory encoder.

    Args:
        size: side of the embedding.
        absent: (D,) float32, added to the memory of an object that is not there; None in SAM 2.0.
        positions: (size * size, D) float32, of a memory's tokens.
    """

    size: int
    downsampler: MaskDownsampler
    features: Linear
    blocks: tuple[FuserBlock, ...]
    projection: Linear
    absent: np.ndarray | None
    positions: np.ndarray

    def __call__(self, image: np.ndarray, masks: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the tokens (P, size * size, D) float32 of P objects in a frame.

        Args:
            image: (size, size, C) float32, the frame's embedding without a memory.
            masks: (P, S, S) float32.
            scores: logits (P, 1) of the objects being there.
        """
        each = zip(masks, scores[:, 0], strict=True)
        return np.stack([self._tokens(image, mask, score) for mask, score in each])

    def _tokens(self, image: np.ndarray, mask: np.ndarray, score: float) -> np.ndarray:
        rows = image.reshape(-1, image.shape[2])
        fused = self.features(rows, residual=self.downsampler(mask))
        for block in self.blocks:
            fused = block(fused, self.size)
        tokens = self.projection(fused)
        return tokens if self.absent is None or score > 0 else tokens + self.absent


def read_memory_encoder(weights: Weights, config: Mapping[str, Any], size: int) -> MemoryEncoder:
    """Build the memory encoder; `config` is transformers' whole configuration.

    Raises:
        UnsupportedError: masks do not shrink to the embedding's size, or by other squares.
    """
    path, channels = "memory_encoder", config["memory_encoder_hidden_size"]
    dimensions = config["memory_encoder_output_channels"]
    absent = None
    if config["enable_occlusion_spatial_embedding"]:
        absent = weights.tensor("occlusion_spatial_embedding_parameter", 1, dimensions)[0]
    return MemoryEncoder(
        size,
        _read_downsampler(weights, config, f"{path}.mask_downsampler", size),
        weights.linear(f"{path}.feature_projection", channels, channels),
        tuple(
            _read_block(weights, config, f"{path}.memory_fuser.layers.{index}")
            for index in range(config["memory_fuser_num_layers"])
        ),
        weights.linear(f"{path}.projection", channels, dimensions),
        absent,
        sine_positions(size, dimensions),
    )


def _read_downsampler(
    weights: Weights, config: Mapping[str, Any], path: str, size: int
) -> MaskDownsampler:
    side, stride, margin, shrinks = (
        config[f"mask_downsampler_{name}"]
        for name in ("kernel_size", "stride", "padding", "total_stride")
    )
    # The decoder makes four pixels of a cell, of which four each are remembered.
    image_side, squares = 16 * size, (side, stride, margin)
    if squares != (3, 2, 1) or size * shrinks != image_side or shrinks & (shrinks - 1):
        raise UnsupportedError(
            "The native engine shrinks masks by convolutions of side 3, stride 2 and margin 1 to "
            f"the embedding's size; found side {side}, stride {stride}, margin {margin} and masks "
            f"of {image_side} pixels, {shrinks} times smaller, for {size}. Use --engine simulated."
        )
    layers, channels = [], 1
    for index in range(shrinks.bit_length() - 1):
        layer = weights.convolution(f"{path}.layers.{index}.conv", channels, side, 4 * channels)
        channels *= 4
        if index == 0:  # codes are made of what the mask itself becomes
            layer = layer.rounded_once()
        norm = weights.norm(f"{path}.layers.{index}.layer_norm", channels, NORM_EPSILON)
        layers.append((Convolution(layer, side, stride, margin), norm))
    return MaskDownsampler(
        tuple(layers),
        activation_name(config, "mask_downsampler_hidden_act"),
        weights.linear(f"{path}.final_conv", channels, config["mask_downsampler_embed_dim"]),
    )


def _read_block(weights: Weights, config: Mapping[str, Any], path: str) -> FuserBlock:
    channels, hidden = config["memory_fuser_embed_dim"], config["memory_fuser_intermediate_dim"]
    side, margin = config["memory_fuser_kernel_size"], config["memory_fuser_padding"]
    if side % 2 == 0 or side > 15 or margin != side // 2:
        raise UnsupportedError(
            "The native engine convolves channels with squares of odd sides up to 15, and margins "
            f"of half of it; found side {side} and margin {margin} in {path}. Use --engine "
            "simulated."
        )
    return FuserBlock(
        weights.depthwise(f"{path}.depthwise_conv", channels, side),
        weights.norm(f"{path}.layer_norm", channels, NORM_EPSILON),
        weights.linear(f"{path}.pointwise_conv1", channels, hidden),
        weights.linear(f"{path}.pointwise_conv2", hidden, channels),
        activation_name(config, "memory_fuser_hidden_act"),
        weights.tensor(f"{path}.scale", channels),
    )
