"""Segment Anything (SAM) as `transformers.SamModel`."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from carsam.families.base import NormBefore, Site, Stage, State
from carsam.families.sam.decoding import (
    image_of_tokens,
    mask_prompt_stage,
    masks_and_ious,
    start_tokens,
)
from carsam.families.sam.modules import SamMaskDecoder
from carsam.families.sam.sites import Names, decoder_sites, encoder_sites, prompt_sites
from carsam.families.sam.stages import encoder_stages, image_offset, two_way_stages
from carsam.formats.model_config import LONGEST_SIDE, MOST_TOKENS
from carsam.images.preprocess import Framing

MASKS = ("masks", "ious")
NECK_NORM = NormBefore("vision_encoder.neck.layer_norm1", ("vision_encoder.neck.conv2",), False)


class SamFamily:
    """SAM's encoder, prompt encoder and two-way decoder."""

    name = "sam"
    architecture = "SamModel"
    exact_kinds: tuple[str, ...] = ("encoder.patch_embedding", "prompt_encoder")
    mask_token = 1
    names = Names()

    def framing(self, config: Any) -> Framing:
        """Return how the input of a model of this configuration is filled."""
        return Framing(config.vision_config.image_size)

    def sides(self, config: Any) -> range:
        """Return the sides of inputs that such a model can be resized for: a window or more."""
        vision = config.vision_config
        patch, blocks = vision.patch_size, range(vision.num_hidden_layers)
        has_windows = any(block not in vision.global_attn_indexes for block in blocks)
        least = vision.window_size if has_windows and vision.window_size else 1
        return range(least * patch, min(LONGEST_SIDE, MOST_TOKENS * patch) + 1, patch)

    def set_side_(self, config: Any, side: int) -> None:
        """Make a configuration that of the same model for another size."""
        config.vision_config.image_size = side
        prompts = config.prompt_encoder_config
        prompts.image_size = side
        prompts.image_embedding_size = side // config.vision_config.patch_size

    def sites(self, model: Any) -> tuple[Site, ...]:
        """Return every site in the order of execution."""
        return (*encoder_sites(model), *decoder_sites(model, self.names), *prompt_sites())

    def attention_configs(self, model: Any) -> tuple[Any, ...]:
        """Return the decoder's config; the encoder's attentions ask none."""
        return (model.config.mask_decoder_config,)

    def stages(self, model: Any) -> tuple[Stage, ...]:
        """Return the model cut into its smallest stages, in the order of execution."""
        return (
            Stage("vision_encoder.patch_embed", _run_patch_embedding, ("hidden",)),
            *encoder_stages(model),
            Stage("vision_encoder.neck", _run_neck, ("hidden",), norm=NECK_NORM),
            Stage(
                "mask_decoder.tokens",
                partial(_run_tokens, self.output_tokens(model)),
                ("tokens", "image"),
                shared=image_offset(self.names),
                per_box=("tokens", "token_positions"),
            ),
            *two_way_stages(model, self.names),
            Stage("mask_decoder", _run_mask_head, MASKS, per_box=MASKS),
            mask_prompt_stage(),
        )

    def output_tokens(self, model: Any) -> Tensor:
        """Return the decoder's own tokens (5, C): IoU, then one per mask."""
        decoder: SamMaskDecoder = model.mask_decoder
        return torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])

    def start(self, pixels: Tensor, prompts: Tensor | None = None, **others: Tensor) -> State:
        """Return the state before the first stage."""
        given = others if prompts is None else {"prompts": prompts, **others}
        return {"hidden": pixels, **given}

    def encode(self, model: Any, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding of pixels (1, 3, S, S): (1, C, h, w)."""
        return (model.get_image_embeddings(pixels),)

    def decode(
        self, model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits (1, P, M, 4h, 4w) and predicted IoUs (1, P, M)."""
        output = model(image_embeddings=embedding[0], multimask_output=multimask_output, **prompts)
        return output.pred_masks, output.iou_scores


def _run_patch_embedding(model: Any, state: State) -> State:
    encoder = model.vision_encoder
    hidden = encoder.patch_embed(state["hidden"])  # (1, h, w, width)
    if encoder.pos_embed is not None:
        hidden = hidden + encoder.pos_embed
    return {**state, "hidden": hidden}


def _run_neck(model: Any, state: State) -> State:
    return {**state, "hidden": model.vision_encoder.neck(state["hidden"])}  # (1, C, h, w)


def _run_tokens(output_tokens: Tensor, model: Any, state: State) -> State:
    return start_tokens(model, state, output_tokens)


def _run_mask_head(model: Any, state: State) -> State:
    """Return the logits (P, masks, 4h, 4w) and the predicted IoUs (P, masks)."""
    decoder: SamMaskDecoder = model.mask_decoder
    upscaled = decoder.upscale_conv1(image_of_tokens(model, state))
    upscaled = decoder.activation(decoder.upscale_layer_norm(upscaled))
    upscaled = decoder.activation(decoder.upscale_conv2(upscaled))  # (P, C / 8, 4h, 4w)
    return masks_and_ious(decoder, state["tokens"][0], upscaled)
