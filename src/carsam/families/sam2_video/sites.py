"""Every place of SAM 2's memory that can be quantized."""

from collections.abc import Iterator
from typing import Any

from carsam.families.base import AttentionLayers, Site, SiteType
from carsam.families.sam.sites import head_sites

ENCODER, ATTENTION, POINTER = "memory_encoder", "memory_attention", "object_pointer_proj"
MASK_INPUT = "memory_encoder.mask_input"
"""Kind of the convolution that reads the mask itself, which has few values: 9 weights a row."""

PAIR = 2
"""Neighbouring channels of queries and keys that are rotated together."""


def encoder_sites(model: Any) -> Iterator[Site]:
    """Yield the sites of the memory encoder."""
    downsampler = f"{ENCODER}.mask_downsampler"
    for index in range(len(model.memory_encoder.mask_downsampler.layers)):
        kind = "memory_encoder.mask" if index else MASK_INPUT
        yield Site(f"{downsampler}.layers.{index}.conv", kind, SiteType.CONV)
    yield Site(f"{downsampler}.final_conv", "memory_encoder.mask", SiteType.CONV)
    yield Site(f"{ENCODER}.feature_projection", "memory_encoder.projection", SiteType.CONV)
    for index in range(len(model.memory_encoder.memory_fuser.layers)):
        path = f"{ENCODER}.memory_fuser.layers.{index}"
        yield Site(f"{path}.depthwise_conv", "memory_encoder.depthwise", SiteType.CONV)
        for name in ("pointwise_conv1", "pointwise_conv2"):
            yield Site(f"{path}.{name}", "memory_encoder.mlp", SiteType.LINEAR)
    yield Site(f"{ENCODER}.projection", "memory_encoder.projection", SiteType.CONV)


def attention_sites(model: Any) -> Iterator[Site]:
    """Yield the sites of the memory attention."""
    for index in range(len(model.memory_attention.layers)):
        path = f"{ATTENTION}.layers.{index}"
        yield from _rotated(f"{path}.self_attn", "memory.self_attention")
        yield from _rotated(f"{path}.cross_attn_image", "memory.cross_attention")
        for name in ("linear1", "linear2"):
            yield Site(f"{path}.{name}", "memory.mlp", SiteType.LINEAR)


def pointer_sites(model: Any) -> Iterator[Site]:
    """Yield the sites of the head that makes an object's pointer of its mask's token."""
    yield from head_sites(POINTER, model.object_pointer_proj, "memory.pointer")


def _rotated(path: str, kind: str) -> Iterator[Site]:
    """Yield the sites of an attention; what its products multiply are rotated queries and keys."""
    query, key, value, output = (f"{path}.{name}_proj" for name in "qkvo")
    for layer in (query, key, value):
        yield Site(layer, kind, SiteType.LINEAR)
    around = AttentionLayers((query, key, value), output, scales_in=PAIR, rotated=True)
    yield Site(path, kind, SiteType.ATTENTION, around)
    yield Site(output, kind, SiteType.LINEAR)
