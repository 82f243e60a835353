"""SAM's mask decoder: prompt tokens and the image embedding become masks and predicted IoUs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from carsam.runtime import kernels
from carsam.runtime.layers import Linear, Norm
from carsam.runtime.matrices import PackedMatrix, UpscalingWeights
from carsam.runtime.reference import FineLevels, ordered_levels, unfold_masks
from carsam.runtime.two_way import (
    Tokens,
    TwoWayForm,
    TwoWayTransformer,
    read_two_way_transformer,
)
from carsam.runtime.weights import Weights

UPSCALING_NORM_EPSILON = 1e-6


@dataclass(frozen=True)
class FeedForward:
    """Linear layers with ReLU between them."""

    layers: tuple[Linear, ...]

    def rounded_once(self) -> "FeedForward":
        """The same, its float layers summing in float64."""
        return FeedForward(tuple(layer.rounded_once() for layer in self.layers))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map (P, C) float32 to (P, outputs) float32."""
        hidden = values
        for layer in self.layers[:-1]:
            hidden = layer(hidden, activation="relu")
        return self.layers[-1](hidden)


@dataclass(frozen=True)
class MaskUpscaling:
    """Two transposed convolutions, each doubling the resolution.

    Args:
        in_double: float sums are in float64 and rounded once, which takes longer.
    """

    conv1: Linear
    norm: Norm
    conv2: Linear
    in_double: bool = False

    def rounded_once(self) -> "MaskUpscaling":
        """The same, summing in float64 where it is float."""
        convolutions = self.conv1.rounded_once(), self.conv2.rounded_once()
        return MaskUpscaling(convolutions[0], self.norm, convolutions[1], in_double=True)

    def __call__(
        self,
        images: np.ndarray,
        mask_kernels: np.ndarray,
        size: int,
        fine: FineLevels | None = None,
    ) -> np.ndarray:
        """Map image tokens (P, size * size, C) and kernels (P, M, C / 8) float32 to masks.

        Args:
            fine: what is added behind the two convolutions.

        Returns:
            (P, M, 4 * size, 4 * size) float32.
        """
        if self._float_weights is not None:
            return kernels.upscaled_masks(images, mask_kernels, self._float_weights, fine)
        ordered = (None, None) if fine is None else ordered_levels(*fine)
        side = 4 * size
        masks = np.empty((*mask_kernels.shape[:2], side, side), np.float32)
        for index, (image, mask_kernel) in enumerate(zip(images, mask_kernels, strict=True)):
            pixels = self._upscaled(image, *ordered)
            if self.in_double:
                product = kernels.float_product(pixels, mask_kernel.astype(np.float64)).T
            else:
                product = kernels.float_product(mask_kernel, pixels)
            masks[index] = unfold_masks(product, size)
        return masks

    def _upscaled(
        self, image: np.ndarray, finer: np.ndarray | None, finest: np.ndarray | None
    ) -> np.ndarray:
        """Map (size * size, C) float32 to (16 * size * size, C / 8) float32."""
        doubled = self.conv1(image, residual=finer).reshape(4 * len(image), -1)
        hidden = self.norm(doubled, activation="gelu")
        pixels = self.conv2(hidden, residual=finest)
        return kernels.activate(pixels, activation="gelu").reshape(16 * len(image), -1)

    @cached_property
    def _float_weights(self) -> UpscalingWeights | None:
        """The weights, if nothing here is quantized or in float64."""
        convolutions = self.conv1, self.conv2
        if self.in_double or any(
            layer.input or isinstance(layer.weight, PackedMatrix) for layer in convolutions
        ):
            return None
        (weight1, bias1), (weight2, bias2) = (
            (layer.weight_values(), layer.at_zero(None)[0]) for layer in convolutions
        )
        norm = self.norm
        return UpscalingWeights(
            weight1, bias1, norm.weight, norm.bias, norm.epsilon, weight2, bias2
        )


@dataclass(frozen=True)
class MaskDecoder:
    """The mask decoder.

    Args:
        size: side of the image embedding.
        output_tokens: (1 + masks, C) float32: the IoU token, then one token per mask.
    """

    size: int
    output_tokens: np.ndarray
    transformer: TwoWayTransformer
    upscaling: MaskUpscaling
    hypernetworks: tuple[FeedForward, ...]
    iou_head: FeedForward

    def __call__(
        self,
        image: Tokens,
        prompt_tokens: np.ndarray,
        multimask_output: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, M, 4 size, 4 size) and predicted IoUs (P, M), float32.

        Args:
            image: size * size tokens of P groups, or of one that all prompts share; dense
                prompts are added.
            prompt_tokens: (P, T, C) float32.
            multimask_output: masks 1 to 3 rather than mask 0.
        """
        count = len(prompt_tokens)
        output_tokens = np.broadcast_to(self.output_tokens, (count, *self.output_tokens.shape))
        given = np.concatenate([output_tokens, prompt_tokens], axis=1)
        chosen = slice(1, len(self.hypernetworks)) if multimask_output else slice(1)
        side = 4 * self.size
        masks = kernels.empty((count, len(self.hypernetworks[chosen]), side, side))
        ious, start = [], 0
        for tokens, images in self.transformer(Tokens(given, given), image):
            mask_tokens = tokens[:, 1:][:, chosen].swapaxes(0, 1)
            pairs = zip(self.hypernetworks[chosen], mask_tokens, strict=True)
            mask_kernels = np.stack([network(token) for network, token in pairs], axis=1)
            prompts = slice(start, start + len(tokens))
            masks[prompts] = self.upscaling(images, mask_kernels, self.size)
            ious.append(self.iou_head(tokens[:, 0])[:, chosen])
            start += len(tokens)
        return masks, np.concatenate(ious)


def read_mask_decoder(
    weights: Weights, config: Mapping[str, Any], size: int, positions: np.ndarray
) -> MaskDecoder:
    """Build the decoder.

    Args:
        config: transformers' `mask_decoder_config`.
        size: side of the image embedding.
        positions: (size * size, C) float32, of its tokens.
    """
    path, channels = "mask_decoder", config["hidden_size"]
    masks = config["num_multimask_outputs"] + 1
    tokens = [
        weights.tensor(f"{path}.iou_token.weight", 1, channels),
        weights.tensor(f"{path}.mask_tokens.weight", masks, channels),
    ]
    return MaskDecoder(
        size,
        np.concatenate(tokens),
        read_two_way_transformer(weights, config, positions, TwoWayForm.of_sam(config)),
        read_mask_upscaling(weights, channels),
        read_hypernetworks(weights, channels, masks),
        read_iou_head(weights, config),
    )


def read_mask_upscaling(weights: Weights, channels: int) -> MaskUpscaling:
    """Build the upscaling of an embedding of so many channels."""
    conv1, conv2 = (f"mask_decoder.upscale_conv{index}" for index in (1, 2))
    norm = "mask_decoder.upscale_layer_norm"
    return MaskUpscaling(
        weights.transposed_convolution(conv1, channels, 2, channels // 4),
        weights.norm(norm, channels // 4, UPSCALING_NORM_EPSILON),
        weights.transposed_convolution(conv2, channels // 4, 2, channels // 8),
    )


def read_hypernetworks(weights: Weights, channels: int, masks: int) -> tuple[FeedForward, ...]:
    """Build what makes the kernel of each mask."""
    paths = [f"mask_decoder.output_hypernetworks_mlps.{mask}" for mask in range(masks)]
    widths = (channels, channels, channels, channels // 8)
    return tuple(read_feed_forward(weights, path, widths) for path in paths)


def read_iou_head(weights: Weights, config: Mapping[str, Any]) -> FeedForward:
    """Build what predicts the masks' IoUs; `config` is transformers' `mask_decoder_config`."""
    inner = [config["iou_head_hidden_dim"]] * (config["iou_head_depth"] - 1)
    widths = (config["hidden_size"], *inner, config["num_multimask_outputs"] + 1)
    return read_feed_forward(weights, "mask_decoder.iou_prediction_head", widths)


def read_feed_forward(weights: Weights, path: str, widths: tuple[int, ...]) -> FeedForward:
    """Layers from each of `widths` to the next."""
    inner = [f"layers.{index}" for index in range(len(widths) - 3)]
    names = ["proj_in", *inner, "proj_out"]
    return FeedForward(
        tuple(
            weights.linear(f"{path}.{name}", columns, rows)
            for name, columns, rows in zip(names, widths[:-1], widths[1:], strict=True)
        )
    )
