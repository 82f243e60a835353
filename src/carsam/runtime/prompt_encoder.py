"""SAM's prompt encoder: points, boxes and masks become tokens and a dense embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carsam.images.prompts import Prompts
from carsam.runtime.layers import Linear, Norm
from carsam.runtime.patches import patches
from carsam.runtime.weights import Weights, activation_name

IMAGE_POSITIONS = "shared_image_embedding"
"""Path of the positional encoding of the image's tokens."""

PADDING_LABEL = -1
IGNORED_LABEL = -10
"""Label of points that only fill a ragged batch; transformers' processors write it."""


@dataclass(frozen=True)
class PositionalEncoding:
    """Random Fourier features of image coordinates.

    Args:
        frequencies: (2, features) float32.
    """

    frequencies: np.ndarray

    def __call__(self, coordinates: np.ndarray) -> np.ndarray:
        """Encode (..., 2) coordinates x, y in [0, 1]: (..., 2 * features) float32.

        Computed in float64, so that every library's sine gives the same float32.
        """
        angles = (2 * coordinates.astype(np.float64) - 1) @ self.frequencies.astype(np.float64)
        angles *= 2 * np.pi
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype(np.float32)

    def of_image(self, size: int) -> np.ndarray:
        """Encode the centres of size x size cells: (size * size, 2 * features)."""
        centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        x, y = np.meshgrid(centres, centres)
        return self(np.stack([x, y], axis=-1).reshape(-1, 2))


@dataclass(frozen=True)
class MaskEmbedding:
    """Three convolutions from mask logits to the resolution of the image embedding."""

    conv1: Linear
    norm1: Norm
    conv2: Linear
    norm2: Norm
    conv3: Linear
    activation: str

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        """Embed (P, 4h, 4w) float32 logits: (P, h * w, C) float32."""
        count, height, width = masks.shape
        hidden = self.conv1(patches(masks[..., None], 2).reshape(-1, 4))
        hidden = self.norm1(hidden, self.activation)
        image = hidden.reshape(count, height // 2, width // 2, -1)
        squares = patches(image, 2)
        hidden = self.conv2(squares.reshape(-1, squares.shape[-1]))
        hidden = self.conv3(self.norm2(hidden, self.activation))
        return hidden.reshape(count, (height // 4) * (width // 4), -1)


@dataclass(frozen=True)
class PromptEncoder:
    """The prompt encoder.

    Args:
        image_size: side of the input frame, in pixels.
        points: (4, C) float32: background point, foreground point, first and second box corner.
        not_a_point: (C,) float32, token of the padding point.
        no_mask: (C,) float32, dense embedding of prompts without a mask.
        pads_boxes: whether a box is followed by a point that is none.
    """

    image_size: int
    positions: PositionalEncoding
    points: np.ndarray
    not_a_point: np.ndarray
    no_mask: np.ndarray
    masks: MaskEmbedding
    pads_boxes: bool

    def __call__(self, prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens (P, T, C) and dense embedding, (P, h * w, C) or (C,) without masks.

        Without points and boxes T is 0 for SAM. SAM 2 reads a point that is none then.
        """
        count = len(prompts)
        tokens = [np.empty((count, 0, len(self.no_mask)), np.float32)]
        if prompts.points is None and prompts.boxes is None and self.pads_boxes:
            none = np.full((count, 1), PADDING_LABEL)
            tokens.append(self._embed_points(np.zeros((count, 1, 2)), none, padded=True))
        if prompts.points is not None and prompts.labels is not None:
            padded = prompts.boxes is None
            tokens.append(self._embed_points(prompts.points, prompts.labels, padded))
        if prompts.boxes is not None:
            tokens.append(self._embed_boxes(prompts.boxes))
        dense = self.no_mask if prompts.masks is None else self.masks(prompts.masks)
        return np.concatenate(tokens, axis=1), dense

    def _embed_points(self, points: np.ndarray, labels: np.ndarray, padded: bool) -> np.ndarray:
        """Embed (P, N, 2) points; `padded` adds a point that is none, as SAM was trained."""
        if padded:
            points = np.pad(points, ((0, 0), (0, 1), (0, 0)))
            labels = np.pad(labels, ((0, 0), (0, 1)), constant_values=PADDING_LABEL)
        encoded = self._encode(points)
        encoded[labels == PADDING_LABEL] = self.not_a_point
        encoded[labels == IGNORED_LABEL] = 0
        for label in (0, 1):
            encoded[labels == label] += self.points[label]
        return encoded

    def _embed_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Embed (P, 4) boxes as two corners each, and a point that is none: (P, 2 or 3, C)."""
        corners = self._encode(boxes.reshape(-1, 2, 2)) + self.points[2:4]
        if not self.pads_boxes:
            return corners
        padding = np.broadcast_to(self.not_a_point, (len(boxes), 1, len(self.not_a_point)))
        return np.concatenate([corners, padding], axis=1)

    def _encode(self, points: np.ndarray) -> np.ndarray:
        centres = points.astype(np.float32) + np.float32(0.5)  # pixel -> centre of the pixel
        return self.positions(centres / np.float32(self.image_size))


def read_positions(weights: Weights, path: str, channels: int) -> PositionalEncoding:
    """Build a positional encoding of so many channels."""
    return PositionalEncoding(weights.tensor(f"{path}.positional_embedding", 2, channels // 2))


def read_prompt_encoder(
    weights: Weights, config: Mapping[str, Any], image_size: int, is_sam2: bool
) -> PromptEncoder:
    """Build the prompt encoder; `config` is transformers' `prompt_encoder_config`.

    Args:
        image_size: side of the input frame, in pixels.
        is_sam2: SAM 2 has the embeddings of points in one table and frequencies for prompts alone,
            and pads boxes.
    """
    channels, mask_channels = config["hidden_size"], config["mask_input_channels"]
    root, epsilon = "prompt_encoder", config["layer_norm_eps"]
    if is_sam2:
        positions = read_positions(weights, f"{root}.shared_embedding", channels)
        points = weights.tensor(f"{root}.point_embed.weight", 4, channels)
    else:
        positions = read_positions(weights, IMAGE_POSITIONS, channels)
        names = [f"{root}.point_embed.{index}.weight" for index in range(4)]
        points = np.concatenate([weights.tensor(name, 1, channels) for name in names])
    embed = f"{root}.mask_embed"
    return PromptEncoder(
        image_size,
        positions,
        points,
        weights.tensor(f"{root}.not_a_point_embed.weight", 1, channels)[0],
        weights.tensor(f"{root}.no_mask_embed.weight", 1, channels)[0],
        MaskEmbedding(
            weights.convolution(f"{embed}.conv1", 1, 2, mask_channels // 4).rounded_once(),
            weights.norm(f"{embed}.layer_norm1", mask_channels // 4, epsilon),
            weights.convolution(
                f"{embed}.conv2", mask_channels // 4, 2, mask_channels
            ).rounded_once(),
            weights.norm(f"{embed}.layer_norm2", mask_channels, epsilon),
            weights.linear(f"{embed}.conv3", mask_channels, channels).rounded_once(),
            activation_name(config),
        ),
        is_sam2,
    )
