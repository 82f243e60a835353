"""Every place of SAM that can be quantized, in the order of execution."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from carsam.families.base import AttentionLayers, Constant, Site, SiteType
from carsam.families.sam.modules import SamFeedForward, SamMaskDecoder, SamVisionLayer

INPUTS = ("q_proj", "k_proj", "v_proj")
CROSS_ATTENTIONS = ("cross_attn_token_to_image", "cross_attn_image_to_token")


@dataclass(frozen=True)
class Names:
    """What a family calls layers of the two-way transformer.

    Args:
        output: the projection after an attention's products.
        mlp: the layers of an MLP.
        tokens: the decoder's own.
    """

    output: str = "out_proj"
    mlp: tuple[str, str] = ("lin1", "lin2")
    tokens: tuple[str, ...] = ("iou_token", "mask_tokens")


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
    for name in ("conv1", "conv2"):
        path = f"vision_encoder.neck.{name}"
        yield Site(path, "encoder.neck", SiteType.CONV, constant=Constant.CHANNELS)


def decoder_sites(model: Any, names: Names) -> Iterator[Site]:
    """Yield the sites of the two-way transformer and of the mask head."""
    decoder: SamMaskDecoder = model.mask_decoder
    own = sum(len(getattr(decoder, name).weight) for name in names.tokens)
    for index in range(len(decoder.transformer.layers)):
        path = f"mask_decoder.transformer.layers.{index}"
        to_image, to_tokens = (f"{path}.{name}" for name in CROSS_ATTENTIONS)
        yield from _attention_sites(f"{path}.self_attn", "decoder.self_attention", names, own, own)
        yield from _attention_sites(to_image, "decoder.cross_attention", names, own, 0)
        for name in names.mlp:
            yield _reading(f"{path}.mlp.{name}", "decoder.mlp", own)
        yield from _attention_sites(to_tokens, "decoder.cross_attention", names, 0, own)
    final = "mask_decoder.transformer.final_attn_token_to_image"
    yield from _attention_sites(final, "decoder.cross_attention", names, own, 0)
    for name in ("upscale_conv1", "upscale_conv2"):
        yield Site(f"mask_decoder.{name}", "decoder.mask_upscaling", SiteType.CONV_TRANSPOSE)
    for index, head in enumerate(decoder.output_hypernetworks_mlps):
        path = f"mask_decoder.output_hypernetworks_mlps.{index}"
        yield from head_sites(path, head, "decoder.hypernetwork")
    head = decoder.iou_prediction_head
    yield from head_sites("mask_decoder.iou_prediction_head", head, "decoder.iou_head")


def _attention_sites(path: str, kind: str, names: Names, queries: int, keys: int) -> Iterator[Site]:
    """Yield the sites of an attention.

    Args:
        queries, keys: the decoder's own tokens among them; 0 if they are the image's.
    """
    query, key, value, output = (f"{path}.{name}" for name in (*INPUTS, names.output))
    yield _reading(query, kind, queries)
    yield _reading(key, kind, keys)
    # Values have no positions.
    yield _reading(value, kind, keys) if keys else Site(value, kind, SiteType.LINEAR)
    around = AttentionLayers((query, key, value), output)
    yield Site(path, kind, SiteType.ATTENTION, around)
    # What tokens get of the image, or it of them, differs from image to image.
    among = queries and keys
    yield _reading(output, kind, queries) if among else Site(output, kind, SiteType.LINEAR)


def _reading(path: str, kind: str, own: int) -> Site:
    """Return the site of a layer that reads the decoder's tokens, or the image's where own is 0."""
    constant = Constant.TOKENS if own else Constant.PLACES
    return Site(path, kind, SiteType.LINEAR, constant=constant, own_tokens=own)


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
