"""SAM 2's mask decoder: as SAM's, with finer levels, an object's score and a choice of masks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from carsam.errors import UnsupportedError
from carsam.runtime.decoder import (
    FeedForward,
    MaskUpscaling,
    read_feed_forward,
    read_hypernetworks,
    read_iou_head,
    read_mask_upscaling,
)
from carsam.runtime.reference import FineLevels
from carsam.runtime.two_way import (
    Tokens,
    TwoWayForm,
    TwoWayTransformer,
    read_two_way_transformer,
)
from carsam.runtime.weights import Weights

SCORE, IOU, FIRST_MASK = 0, 1, 2
"""Places of the decoder's own tokens."""


class Decoded(NamedTuple):
    """What the decoder finds for P prompts, float32.

    Args:
        masks: logits (P, M, 4 size, 4 size).
        ious: predicted (P, M).
        scores: logits (P, 1) of the object being there at all.
        tokens: (P, masks, C) of all masks, whichever were asked for.
    """

    masks: np.ndarray
    ious: np.ndarray
    scores: np.ndarray
    tokens: np.ndarray


@dataclass(frozen=True)
class Stability:
    """When the first mask is taken where one is asked for, instead of the best of the others.

    Args:
        delta: how far around 0 the mask's threshold is moved.
        least: share of the larger mask that the smaller one must have.
    """

    delta: float
    least: float

    def chosen(self, masks: np.ndarray, ious: np.ndarray) -> np.ndarray:
        """Return which of the masks (P, M, h, w) with IoUs (P, M) is taken: (P,)."""
        single = masks[:, 0].reshape(len(masks), -1)
        smaller, larger = (
            (single > np.float32(threshold)).sum(axis=1).astype(np.float32)
            for threshold in (self.delta, -self.delta)
        )
        shares = np.divide(smaller, larger, out=np.ones_like(larger), where=larger > 0)
        return np.where(shares >= np.float32(self.least), 0, 1 + ious[:, 1:].argmax(axis=1))


@dataclass(frozen=True)
class Sam2MaskDecoder:
    """The mask decoder.

    Args:
        size: side of the image embedding.
        output_tokens: (2 + masks, C) float32: of the score, of the IoU, then one per mask.
        stability: None where the first mask is always the one.
    """

    size: int
    output_tokens: np.ndarray
    transformer: TwoWayTransformer
    upscaling: MaskUpscaling
    hypernetworks: tuple[FeedForward, ...]
    iou_head: FeedForward
    score_head: FeedForward
    stability: Stability | None

    def rounded_once(self) -> "Sam2MaskDecoder":
        """The same, summing what is float in its heads in float64.

        Its results do not depend on the order of a sum then. They may become codes again: masks as
        memories, tokens as pointers.
        """
        return replace(
            self,
            upscaling=self.upscaling.rounded_once(),
            hypernetworks=tuple(network.rounded_once() for network in self.hypernetworks),
            iou_head=self.iou_head.rounded_once(),
            score_head=self.score_head.rounded_once(),
        )

    def __call__(
        self, image: Tokens, prompt_tokens: np.ndarray, multimask_output: bool, fine: FineLevels
    ) -> Decoded:
        """Decode P prompts.

        Args:
            image: size * size tokens of P groups, or of one that all prompts share; dense
                prompts are added.
            prompt_tokens: (P, T, C) float32.
            multimask_output: masks 1 to 3 rather than one mask.
            fine: finer levels (2 size, 2 size, C / 4) and (4 size, 4 size, C / 8).
        """
        count = len(prompt_tokens)
        output_tokens = np.broadcast_to(self.output_tokens, (count, *self.output_tokens.shape))
        given = np.concatenate([output_tokens, prompt_tokens], axis=1)
        made = len(self.hypernetworks) - 1 if multimask_output else 1
        masks = np.empty((count, made, 4 * self.size, 4 * self.size), np.float32)
        ious, scores = np.empty((count, made), np.float32), np.empty((count, 1), np.float32)
        of_masks = slice(FIRST_MASK, FIRST_MASK + len(self.hypernetworks))
        mask_tokens, start = [], 0
        for tokens, images in self.transformer(Tokens(given, given), image):
            part = slice(start, start + len(tokens))
            masks[part], ious[part] = self._masks(tokens, images, multimask_output, fine)
            scores[part] = self.score_head(tokens[:, SCORE])
            mask_tokens.append(tokens[:, of_masks])
            start += len(tokens)
        return Decoded(masks, ious, scores, np.concatenate(mask_tokens))

    def _masks(
        self, tokens: np.ndarray, images: np.ndarray, multimask_output: bool, fine: FineLevels
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return masks and IoUs of a few prompts, those that are asked for."""
        stability = None if multimask_output else self.stability
        needed = slice(1, None) if multimask_output else slice(0, 1 if stability is None else None)
        mask_tokens = tokens[:, FIRST_MASK : FIRST_MASK + len(self.hypernetworks)]
        pairs = zip(self.hypernetworks[needed], mask_tokens[:, needed].swapaxes(0, 1), strict=True)
        mask_kernels = np.stack([network(token) for network, token in pairs], axis=1)
        masks = self.upscaling(images, mask_kernels, self.size, fine)
        ious = _sigmoid(self.iou_head(tokens[:, IOU])[:, needed])
        if stability is None:
            return masks, ious
        chosen = (np.arange(len(masks)), stability.chosen(masks, ious))
        return masks[chosen][:, None], ious[chosen][:, None]


def read_sam2_decoder(
    weights: Weights, config: Mapping[str, Any], size: int, positions: np.ndarray
) -> Sam2MaskDecoder:
    """Build the decoder.

    Args:
        config: transformers' `mask_decoder_config`.
        size: side of the image embedding.
        positions: (size * size, C) float32, of its tokens.

    Raises:
        UnsupportedError: another number of blocks than SAM 2's, whose perceptrons have as many
            layers as the decoder has blocks.
    """
    if config["num_hidden_layers"] != 2:
        raise UnsupportedError(
            "The native engine runs SAM 2's decoder with 2 blocks; found "
            f"{config['num_hidden_layers']}. Use --engine simulated."
        )
    path, channels = "mask_decoder", config["hidden_size"]
    masks = config["num_multimask_outputs"] + 1
    tokens = [
        weights.tensor(f"{path}.obj_score_token.weight", 1, channels),
        weights.tensor(f"{path}.iou_token.weight", 1, channels),
        weights.tensor(f"{path}.mask_tokens.weight", masks, channels),
    ]
    stability = None
    if config["dynamic_multimask_via_stability"]:
        numbers = (config[f"dynamic_multimask_stability_{name}"] for name in ("delta", "thresh"))
        stability = Stability(*map(float, numbers))
    return Sam2MaskDecoder(
        size,
        np.concatenate(tokens),
        read_two_way_transformer(weights, config, positions, TwoWayForm.of_sam2()),
        read_mask_upscaling(weights, channels),
        read_hypernetworks(weights, channels, masks),
        read_iou_head(weights, config),
        read_feed_forward(weights, f"{path}.pred_obj_score_head", (channels,) * 3 + (1,)),
        stability,
    )


def _sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), float32."""
    return 1 / (1 + np.exp(-values))
