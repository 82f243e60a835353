"""SAM 2's memory encoder: tokens of what was found in a frame, from its embedding and a mask."""

from typing import Any

from torch import Tensor

from carsam.families.sam2_video.modules import Sam2VideoMemoryEncoder


def fuse(encoder: Sam2VideoMemoryEncoder, images: Tensor, masks: Tensor) -> Tensor:
    """Return the sum of what is made of F images and of P objects' masks: (P F, C, h, w).

    Args:
        images: embeddings (F, C, h, w), without a memory.
        masks: (P, F, S, S).
    """
    made = encoder.mask_downsampler(masks.flatten(0, 1)[:, None]).unflatten(0, masks.shape[:2])
    return (encoder.feature_projection(images) + made).flatten(0, 1)


def fuse_whole(encoder: Sam2VideoMemoryEncoder, image: Tensor, masks: Tensor) -> Tensor:
    """Return what `memory_tokens` reads of an image (1, C, h, w) and masks (P, 1, S, S)."""
    fused = fuse(encoder, image, masks)
    for layer in encoder.memory_fuser.layers:
        fused = layer(fused)
    return fused


def memory_tokens(model: Any, fused: Tensor, scores: Tensor) -> Tensor:
    """Return the tokens (B, n, D) of fused images (B, C, h, w).

    Args:
        scores: logits (B, 1) of the objects being there.
    """
    memory = model.memory_encoder.projection(fused)  # (B, D, h, w)
    absent = model.occlusion_spatial_embedding_parameter
    if absent is not None:
        memory = memory + (scores <= 0)[..., None, None] * absent[..., None, None]
    return memory.flatten(2).transpose(1, 2)
