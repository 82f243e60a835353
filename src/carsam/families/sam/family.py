"""Segment Anything (SAM) as `transformers.SamModel`."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from carsam.families.base import NormBefore, Site, SiteType, Stage, State
from carsam.families.sam.stages import encoder_stages, image_offset, two_way_stages
from carsam.simulation.attention import INTERFACE, AttentionProduct, QuantizedVisionAttention
from carsam.simulation.float_parts import reproduce_
from carsam.simulation.layers import QuantizedLayer

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
CROSS_ATTENTIONS = ("cross_attn_token_to_image", "cross_attn_image_to_token")
NECK_NORM = NormBefore("vision_encoder.neck.layer_norm1", "vision_encoder.neck.conv2", False)
FLOAT_BEFORE_CODES = ("encoder.patch_embedding", "prompt_encoder")
"""Kinds of layers that are float in the papers and whose results quantized layers read."""


class SamFamily:
    """SAM's encoder, prompt encoder and two-way decoder."""

    name = "sam"

    def sites(self, model: Any) -> tuple[Site, ...]:
        """Return every site in the order of execution."""
        return (*_encoder_sites(model), *_decoder_sites(model), *_prompt_sites())

    def wrap_(self, model: Any) -> None:
        """Give the model quantizable layers and attention products, all in float still."""
        for site in self.sites(model):
            module = model.get_submodule(site.path)
            if site.type is not SiteType.ATTENTION:
                rounds_once = site.kind in FLOAT_BEFORE_CODES
                model.set_submodule(site.path, QuantizedLayer(module, rounds_once))
            elif site.path.startswith("vision_encoder."):
                model.set_submodule(site.path, QuantizedVisionAttention(module))
            else:
                module.product = AttentionProduct()
        reproduce_(model)
        model.config.mask_decoder_config._attn_implementation = INTERFACE

    def stages(self, model: Any) -> tuple[Stage, ...]:
        """Return the model cut into its smallest stages, in the order of execution."""
        return (
            Stage("vision_encoder.patch_embed", _run_patch_embedding, ("hidden",)),
            *encoder_stages(model),
            Stage("vision_encoder.neck", _run_neck, ("hidden",), norm=NECK_NORM),
            Stage(
                "mask_decoder.tokens",
                partial(_run_prompt_encoder, self.output_tokens(model)),
                ("tokens", "image"),
                shared=image_offset(),
            ),
            *two_way_stages(model),
            Stage("mask_decoder", _run_mask_head, ("masks", "ious")),
            Stage("prompt_encoder", _run_mask_prompt, ("dense",)),
        )

    def output_tokens(self, model: Any) -> Tensor:
        """Return the decoder's own tokens (5, C): IoU, then one per mask."""
        decoder = model.mask_decoder
        return torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])

    def start(self, pixels: Tensor, boxes: Tensor) -> State:
        """Return the state before the first stage."""
        return {"hidden": pixels, "boxes": boxes}

    def encode(self, model: Any, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding of pixels (1, 3, S, S): (1, C, h, w)."""
        return (model.get_image_embeddings(pixels),)

    def decode(
        self, model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits (1, P, M, 4h, 4w) and predicted IoUs (1, P, M)."""
        output = model(image_embeddings=embedding[0], multimask_output=multimask_output, **prompts)
        return output.pred_masks, output.iou_scores


def _encoder_sites(model: Any) -> Iterator[Site]:
    yield Site("vision_encoder.patch_embed.projection", "encoder.patch_embedding", SiteType.CONV)
    for index, layer in enumerate(model.vision_encoder.layers):
        path = f"vision_encoder.layers.{index}"
        span = "window" if layer.window_size > 0 else "global"
        yield Site(f"{path}.attn.qkv", "encoder.qkv", SiteType.LINEAR)
        yield Site(f"{path}.attn", f"encoder.{span}_attention", SiteType.ATTENTION)
        yield Site(f"{path}.attn.proj", "encoder.projection", SiteType.LINEAR)
        yield Site(f"{path}.mlp.lin1", "encoder.mlp", SiteType.LINEAR)
        yield Site(f"{path}.mlp.lin2", "encoder.mlp", SiteType.LINEAR)
    yield Site("vision_encoder.neck.conv1", "encoder.neck", SiteType.CONV)
    yield Site("vision_encoder.neck.conv2", "encoder.neck", SiteType.CONV)


def _decoder_sites(model: Any) -> Iterator[Site]:
    transformer = model.mask_decoder.transformer
    for index in range(len(transformer.layers)):
        path = f"mask_decoder.transformer.layers.{index}"
        yield from _attention_sites(f"{path}.self_attn", "decoder.self_attention")
        yield from _attention_sites(f"{path}.{CROSS_ATTENTIONS[0]}", "decoder.cross_attention")
        yield Site(f"{path}.mlp.lin1", "decoder.mlp", SiteType.LINEAR)
        yield Site(f"{path}.mlp.lin2", "decoder.mlp", SiteType.LINEAR)
        yield from _attention_sites(f"{path}.{CROSS_ATTENTIONS[1]}", "decoder.cross_attention")
    final = "mask_decoder.transformer.final_attn_token_to_image"
    yield from _attention_sites(final, "decoder.cross_attention")
    for name in ("upscale_conv1", "upscale_conv2"):
        yield Site(f"mask_decoder.{name}", "decoder.mask_upscaling", SiteType.CONV_TRANSPOSE)
    for index, head in enumerate(model.mask_decoder.output_hypernetworks_mlps):
        path = f"mask_decoder.output_hypernetworks_mlps.{index}"
        yield from _head_sites(path, head, "decoder.hypernetwork")
    head = model.mask_decoder.iou_prediction_head
    yield from _head_sites("mask_decoder.iou_prediction_head", head, "decoder.iou_head")


def _attention_sites(path: str, kind: str) -> Iterator[Site]:
    *inputs, output = PROJECTIONS
    for name in inputs:
        yield Site(f"{path}.{name}", kind, SiteType.LINEAR)
    yield Site(path, kind, SiteType.ATTENTION)
    yield Site(f"{path}.{output}", kind, SiteType.LINEAR)


def _head_sites(path: str, head: Any, kind: str) -> Iterator[Site]:
    yield Site(f"{path}.proj_in", kind, SiteType.LINEAR)
    for index in range(len(head.layers)):
        yield Site(f"{path}.layers.{index}", kind, SiteType.LINEAR)
    yield Site(f"{path}.proj_out", kind, SiteType.LINEAR)


def _prompt_sites() -> Iterator[Site]:
    for name in ("conv1", "conv2", "conv3"):
        yield Site(f"prompt_encoder.mask_embed.{name}", "prompt_encoder", SiteType.CONV)


def _run_patch_embedding(model: Any, state: State) -> State:
    encoder = model.vision_encoder
    hidden = encoder.patch_embed(state["hidden"])  # (1, h, w, width)
    if encoder.pos_embed is not None:
        hidden = hidden + encoder.pos_embed
    return {**state, "hidden": hidden}


def _run_neck(model: Any, state: State) -> State:
    return {**state, "hidden": model.vision_encoder.neck(state["hidden"])}  # (1, C, h, w)


def _run_prompt_encoder(output_tokens: Tensor, model: Any, state: State) -> State:
    """Turn the embedding and the boxes into the two-way transformer's inputs.

    The image tokens are kept once, (1, 1, h * w, C), for all P prompts: the first block computes
    their keys and values once and broadcasts them.
    """
    sparse, dense = model.get_prompt_embeddings(input_boxes=state["boxes"])
    tokens = torch.cat([output_tokens.expand(*sparse.shape[:2], -1, -1), sparse], dim=2)
    positions = model.get_image_wide_positional_embeddings()
    return {
        "tokens": tokens,  # (1, P, output tokens + 2, C)
        "token_positions": tokens,
        "image": _as_tokens(state["hidden"] + dense),  # (1, 1, h * w, C)
        "image_positions": _as_tokens(positions),
    }


def _run_mask_head(model: Any, state: State) -> State:
    """Return the logits (P, masks, 4h, 4w) and the predicted IoUs (P, masks)."""
    decoder = model.mask_decoder
    tokens, image = state["tokens"][0], state["image"][:, 0]  # (P, 7, C), (P, h * w, C)
    side = model.prompt_encoder.image_embedding_size
    image = image.transpose(1, 2).reshape(len(image), -1, *side)
    upscaled = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(image)))
    upscaled = decoder.activation(decoder.upscale_conv2(upscaled))  # (P, C / 8, 4h, 4w)
    heads = enumerate(decoder.output_hypernetworks_mlps)
    kernels = torch.stack([head(tokens[:, 1 + index]) for index, head in heads], dim=1)
    masks = torch.einsum("pmc,pchw->pmhw", kernels, upscaled)
    return {"masks": masks, "ious": decoder.iou_prediction_head(tokens[:, 0])}


def _run_mask_prompt(model: Any, state: State) -> State:
    """Feed the masks back as prompts, the only use of the prompt encoder's convolutions."""
    return {"dense": model.prompt_encoder.mask_embed(state["masks"][:, :1])}


def _as_tokens(image: Tensor) -> Tensor:
    """(1, C, h, w) to (1, 1, h * w, C)."""
    return image.flatten(2).transpose(1, 2)[:, None]
