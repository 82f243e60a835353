"""Every place of SAM 2 that can be quantized, in the order of execution."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from carsam.families.base import AttentionLayers, Constant, Site, SiteType
from carsam.families.sam.sites import Names, head_sites
from carsam.families.sam2.modules import Sam2MaskDecoder, Sam2MultiScaleBlock

TOKENS = ("obj_score_token", "iou_token", "mask_tokens")
NAMES = Names("o_proj", ("proj_in", "proj_out"), TOKENS)

FINE_LEVELS = {0: "s0", 1: "s1"}
"""Stages of Hiera whose output goes, through the neck, straight to the mask head: entry's name."""


def stage_ends(model: Any) -> tuple[int, ...]:
    """Return the last block of each stage of Hiera."""
    counts = model.config.vision_config.backbone_config.blocks_per_stage
    return tuple(blocks - 1 for blocks in accumulate(counts))


def neck_conv(model: Any, stage: int) -> str:
    """Return the path of the neck's convolution that reads a stage of Hiera."""
    return f"vision_encoder.neck.convs.{len(stage_ends(model)) - 1 - stage}"


def encoder_sites(model: Any) -> Iterator[Site]:
    """Yield the sites of patch embedding, blocks and neck."""
    backbone = "vision_encoder.backbone"
    patches = f"{backbone}.patch_embed.projection"
    yield Site(patches, "encoder.patch_embedding", SiteType.CONV)
    blocks: list[Sam2MultiScaleBlock] = model.vision_encoder.backbone.blocks
    ends = stage_ends(model)
    for index, block in enumerate(blocks):
        yield from _block_sites(f"{backbone}.blocks.{index}", block)
        if index in ends:
            stage = ends.index(index)
            yield _level_site(neck_conv(model, stage), "encoder.neck")
            if stage in FINE_LEVELS:
                fine = f"mask_decoder.conv_{FINE_LEVELS[stage]}"
                yield _level_site(fine, "encoder.fine_level")


def _level_site(path: str, kind: str) -> Site:
    """Return the site of a 1 x 1 convolution that makes a level."""
    return Site(path, kind, SiteType.CONV, constant=Constant.CHANNELS)


def _block_sites(path: str, block: Sam2MultiScaleBlock) -> Iterator[Site]:
    span = "window" if block.window_size > 0 else "global"
    pooled = block.query_stride is not None
    around = AttentionLayers(
        (f"{path}.attn.qkv",) * 3, f"{path}.attn.proj", scales_in=1 if pooled else None
    )
    if block.dim != block.dim_out:
        yield Site(f"{path}.proj", "encoder.shortcut", SiteType.LINEAR)
    yield Site(f"{path}.attn.qkv", "encoder.qkv", SiteType.LINEAR)
    yield Site(f"{path}.attn", f"encoder.{span}_attention", SiteType.ATTENTION, around)
    yield Site(f"{path}.attn.proj", "encoder.projection", SiteType.LINEAR)
    for name in NAMES.mlp:
        yield Site(f"{path}.mlp.{name}", "encoder.mlp", SiteType.LINEAR)


def score_sites(model: Any) -> Iterator[Site]:
    """Yield the sites of the head that tells whether there is an object."""
    decoder: Sam2MaskDecoder = model.mask_decoder
    path = "mask_decoder.pred_obj_score_head"
    yield from head_sites(path, decoder.pred_obj_score_head, "decoder.object_score_head")
