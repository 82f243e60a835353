"""What families do alike before and after the two-way transformer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from carsam.families.base import Stage, State
from carsam.families.sam.modules import SamMaskDecoder
from carsam.images.clicks import are_clicks

PROMPTS = ("points", "labels", "boxes", "masks")


def start_tokens(model: Any, state: State, output_tokens: Tensor) -> State:
    """Turn the embedding and the prompts into the two-way transformer's inputs.

    The image tokens are kept once, (1, 1, h * w, C), for all P prompts: the first block computes
    their keys and values once and broadcasts them. An embedding (P, C, h, w) has (P, 1, h * w, C).

    Args:
        output_tokens: the decoder's own (T, C).
    """
    sparse, dense = _prompt_embeddings(model, state)
    tokens = torch.cat([output_tokens.expand(*sparse.shape[:2], -1, -1), sparse], dim=2)
    return {
        "tokens": tokens,  # (1, P, T and the prompt's, C)
        "token_positions": tokens,
        "image": _as_tokens(state["hidden"] + dense),
        "image_positions": image_positions(model),
    }


def image_positions(model: Any) -> Tensor:
    """Return the positions (1, 1, h * w, C) that are added to the image's tokens."""
    return _as_tokens(model.get_image_wide_positional_embeddings())


def _prompt_embeddings(model: Any, state: State) -> tuple[Tensor, Tensor]:
    """Return the sparse embeddings (1, P, N, C) and the dense ones (1, C, h, w) of the prompts."""
    if "prompts" not in state:
        given = {f"input_{name}": state[name] for name in PROMPTS if name in state}
        embeddings: tuple[Tensor, Tensor] = model.get_prompt_embeddings(**given)
        return embeddings
    rows = state["prompts"]
    boxes, dense = model.get_prompt_embeddings(input_boxes=rows)
    # A click gets as many tokens as a box, the last ones being no points: one is added anyway.
    points = rows.new_zeros(*rows.shape[:2], boxes.shape[2] - 1, 2)
    labels = points.new_full(points.shape[:3], -1, dtype=torch.int64)
    points[:, :, 0], labels[:, :, 0] = rows[..., :2], 1
    clicks, _ = model.get_prompt_embeddings(input_points=points, input_labels=labels)
    return torch.where(are_clicks(rows)[..., None, None], clicks, boxes), dense


def image_of_tokens(model: Any, state: State) -> Tensor:
    """Return what the two-way transformer made of the image, (P, C, h, w)."""
    image = state["image"][:, 0]  # (P, h * w, C)
    side = model.prompt_encoder.image_embedding_size
    return image.transpose(1, 2).reshape(len(image), -1, *side)


def logits_of(kernels: Tensor, upscaled: Tensor) -> Tensor:
    """Return the products (P, masks, 4h, 4w) of every mask's kernel and every pixel."""
    return torch.einsum("pmc,pchw->pmhw", kernels, upscaled)


def masks_and_ious(
    decoder: SamMaskDecoder,
    tokens: Tensor,
    upscaled: Tensor,
    multiply: Callable[[Tensor, Tensor], Tensor] = logits_of,
) -> State:
    """Return the logits (P, masks, 4h, 4w) and the predicted IoUs (P, masks).

    Args:
        tokens: the decoder's for the IoU, then one for each mask (P, 1 + masks or more, C).
        upscaled: image (P, C / 8, 4h, 4w).
        multiply: what makes the logits of kernels (P, masks, C / 8) and of the image.
    """
    heads = enumerate(decoder.output_hypernetworks_mlps)
    kernels = torch.stack([head(tokens[:, 1 + index]) for index, head in heads], dim=1)
    return {"masks": multiply(kernels, upscaled), "ious": decoder.iou_prediction_head(tokens[:, 0])}


def mask_prompt_stage() -> Stage:
    """Return the stage that feeds masks back as prompts."""
    return Stage("prompt_encoder", _run_mask_prompt, ("dense",), per_box=("dense",))


def _run_mask_prompt(model: Any, state: State) -> State:
    """Run the prompt encoder's convolutions, whose only use this is."""
    return {"dense": model.prompt_encoder.mask_embed(state["masks"][:, :1])}


def _as_tokens(image: Tensor) -> Tensor:
    """(B, C, h, w) to (B, 1, h * w, C)."""
    return image.flatten(2).transpose(1, 2)[:, None]
