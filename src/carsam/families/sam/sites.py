"""Every place of SAM that can be quantized, in the order of execution."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from carsam.families.base import AttentionLayers, Site, SiteType
from carsam.families.sam.modules import SamFeedForward, SamMaskDecoder, SamVisionLayer

INPUTS = ("q_proj", "k_proj", "v_proj")
CROSS_ATTENTIONS = ("cross_attn_token_to_image", "cross_attn_image_to_token")


@dataclass(frozen=True)
class Names:
    """What a family calls layers of the two-way transformer.

    Args:
        output: the projection after an attention's products.
        mlp: the layers of an MLP.
    """

    output: str = "out_proj"
    mlp: tuple[str, str] = ("lin1", "lin2")


def encoder_sites(model: Any) -> Iterator[Site]:
    """Yield the sites of patch embedding, blocks and neck."""
    yield Site("vision_encoder.patch_embed.projection", "encoder.patch_embedding", SiteType.CONV)
    layers: list[SamVisionLayer] = model.vision_encoder.layers
    for index, layer in enumerate(layers):
        path = f"vision_encoder.layers.{index}"
        span = "window" if layer.window_size > 0 else "global"
        positions = ("rel_pos_h", "rel_pos_w") if layer.attn.use_rel_pos else ()
        around = AttentionLayers(
            (f"{path}.attn.qkv",) * 3,
            f"{path}.attn.proj",
            tuple(f"{path}.attn.{name}" for name in positions),
        )
        yield Site(f"{path}.attn.qkv", "encoder.qkv", SiteType.LINEAR)
        yield Site(f"{path}.attn", f"encoder.{span}_attention", SiteType.ATTENTION, around)
        yield Site(f"{path}.attn.proj", "encoder.projection", SiteType.LINEAR)
        yield Site(f"{path}.mlp.lin1", "encoder.mlp", SiteType.LINEAR)
        yield Site(f"{path}.mlp.lin2", "encoder.mlp", SiteType.LINEAR)
    yield Site("vision_encoder.neck.conv1", "encoder.neck", SiteType.CONV)
    yield Site("vision_encoder.neck.conv2", "encoder.neck", SiteType.CONV)


def decoder_sites(model: Any, names: Names) -> Iterator[Site]:
    """Yield the sites of the two-way transformer and of the mask head."""
    decoder: SamMaskDecoder = model.mask_decoder
    for index in range(len(decoder.transformer.layers)):
        path = f"mask_decoder.transformer.layers.{index}"
        to_image, to_tokens = (f"{path}.{name}" for name in CROSS_ATTENTIONS)
        yield from _attention_sites(f"{path}.self_attn", "decoder.self_attention", names)
        yield from _attention_sites(to_image, "decoder.cross_attention", names)
        for name in names.mlp:
            yield Site(f"{path}.mlp.{name}", "decoder.mlp", SiteType.LINEAR)
        yield from _attention_sites(to_tokens, "decoder.cross_attention", names)
    final = "mask_decoder.transformer.final_attn_token_to_image"
    yield from _attention_sites(final, "decoder.cross_attention", names)
    for name in ("upscale_conv1", "upscale_conv2"):
        yield Site(f"mask_decoder.{name}", "decoder.mask_upscaling", SiteType.CONV_TRANSPOSE)
    for index, head in enumerate(decoder.output_hypernetworks_mlps):
        path = f"mask_decoder.output_hypernetworks_mlps.{index}"
        yield from head_sites(path, head, "decoder.hypernetwork")
    head = decoder.iou_prediction_head
    yield from head_sites("mask_decoder.iou_prediction_head", head, "decoder.iou_head")


def _attention_sites(path: str, kind: str, names: Names) -> Iterator[Site]:
    query, key, value, output = (f"{path}.{name}" for name in (*INPUTS, names.output))
    for layer in (query, key, value):
        yield Site(layer, kind, SiteType.LINEAR)
    around = AttentionLayers((query, key, value), output)
    yield Site(path, kind, SiteType.ATTENTION, around)
    yield Site(output, kind, SiteType.LINEAR)


def head_sites(path: str, head: SamFeedForward, kind: str) -> Iterator[Site]:
    """Yield the sites of a hypernetwork or another head of some linears."""
    yield Site(f"{path}.proj_in", kind, SiteType.LINEAR)
    for index in range(len(head.layers)):
        yield Site(f"{path}.layers.{index}", kind, SiteType.LINEAR)
    yield Site(f"{path}.proj_out", kind, SiteType.LINEAR)


def prompt_sites() -> Iterator[Site]:
    """Yield the sites of the convolutions that read a mask prompt."""
    for name in ("conv1", "conv2", "conv3"):
        yield Site(f"prompt_encoder.mask_embed.{name}", "prompt_encoder", SiteType.CONV)
