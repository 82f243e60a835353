"""Every place of SAM 3's image encoder that can be quantized, in the order of execution."""

from collections.abc import Iterator
from typing import Any

from carsam.families.base import AttentionLayers, Site, SiteType
from carsam.families.sam2.sites import FINE_LEVELS
from carsam.families.sam2_video.sites import PAIR
from carsam.families.sam3_tracker.modules import Sam3ViTLayer

BACKBONE, NECK = "vision_encoder.backbone", "vision_encoder.neck"
PATCHES = f"{BACKBONE}.embeddings.patch_embeddings"
LEVELS = 3
"""Levels that the decoder reads; the neck can make a coarser one, which is for the detector."""


def level_path(level: int) -> str:
    """Return the path of what makes a level of the last block's tokens; 0 is the finest."""
    return f"{NECK}.fpn_layers.{level}"


def encoder_sites(model: Any) -> Iterator[Site]:
    """Yield the sites of patch embedding, blocks and levels."""
    yield Site(f"{PATCHES}.projection", "encoder.patch_embedding", SiteType.CONV)
    layers: list[Sam3ViTLayer] = model.vision_encoder.backbone.layers
    for index, layer in enumerate(layers):
        yield from _block_sites(f"{BACKBONE}.layers.{index}", layer)
    for level in range(LEVELS):
        yield from _level_sites(model, level)


def _block_sites(path: str, layer: Sam3ViTLayer) -> Iterator[Site]:
    span = "window" if layer.window_size > 0 else "global"
    query, key, value, output = (f"{path}.attention.{name}_proj" for name in "qkvo")
    for projection in (query, key, value):
        yield Site(projection, "encoder.qkv", SiteType.LINEAR)
    around = AttentionLayers((query, key, value), output, scales_in=PAIR, rotated=True)
    kind = f"encoder.{span}_attention"
    yield Site(f"{path}.attention", kind, SiteType.ATTENTION, around)
    yield Site(output, "encoder.projection", SiteType.LINEAR)
    for name in ("fc1", "fc2"):
        yield Site(f"{path}.mlp.{name}", "encoder.mlp", SiteType.LINEAR)


def _level_sites(model: Any, level: int) -> Iterator[Site]:
    path = level_path(level)
    upscaling = model.get_submodule(path).scale_layers
    for index in range(0, len(upscaling), 2):  # an activation is between two of them
        yield Site(f"{path}.scale_layers.{index}", "encoder.neck", SiteType.CONV_TRANSPOSE)
    for name in ("proj1", "proj2"):
        yield Site(f"{path}.{name}", "encoder.neck", SiteType.CONV)
    if level in FINE_LEVELS:
        fine = f"mask_decoder.conv_{FINE_LEVELS[level]}"
        yield Site(fine, "encoder.fine_level", SiteType.CONV)
