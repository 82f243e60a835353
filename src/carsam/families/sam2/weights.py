"""Weights of SAM 2 and SAM 2.1, under Meta's names or those of transformers, as a model for images.

The two hold the same tensors under different names. Meta's `sam2.1_hiera_*.pt` and transformers'
folders hold, beside the image model, what tracks objects through videos; SAM 2.0 and 2.1 differ
only in that.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2VisionConfig

from carsam.errors import UserError
from carsam.families.registry import empty_model
from carsam.families.sam_geometry import count_numbered
from carsam.families.weight_checks import fill_, match

METAS_PATCHES = "image_encoder.trunk.patch_embed.proj.weight"
PATCHES = "vision_encoder.backbone.patch_embed.projection.weight"
"""The weight that only SAM 2's encoder has, by Meta and by transformers."""

POINTS = "sam_prompt_encoder.point_embeddings"

VIDEO_PARTS = {
    "memory_attention",
    "memory_encoder",
    "mask_downsample",
    *("object_pointer_proj", "obj_ptr_proj"),
    *("temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    *("memory_temporal_positional_encoding", "maskmem_tpos_enc"),
    *("no_memory_positional_encoding", "no_mem_pos_enc"),
    *("no_object_pointer", "no_obj_ptr"),
    *("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
}
"""First words of the names of what only videos need, by transformers and by Meta."""

# transformers' name -> Meta's; all patterns are applied, one after the other.
RENAMES = (
    (r"^vision_encoder\.backbone\.patch_embed\.projection", "image_encoder.trunk.patch_embed.proj"),
    (r"^vision_encoder\.backbone", "image_encoder.trunk"),
    (r"^vision_encoder\.neck\.convs\.(\d+)", r"image_encoder.neck.convs.\1.conv"),
    (
        r"^(shared_image|prompt_encoder\.shared)_embedding\.positional_embedding",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"^prompt_encoder\.point_embed\.", f"{POINTS}."),
    (r"^prompt_encoder\.mask_embed\.conv1", "sam_prompt_encoder.mask_downscaling.0"),
    (r"^prompt_encoder\.mask_embed\.layer_norm1", "sam_prompt_encoder.mask_downscaling.1"),
    (r"^prompt_encoder\.mask_embed\.conv2", "sam_prompt_encoder.mask_downscaling.3"),
    (r"^prompt_encoder\.mask_embed\.layer_norm2", "sam_prompt_encoder.mask_downscaling.4"),
    (r"^prompt_encoder\.mask_embed\.conv3", "sam_prompt_encoder.mask_downscaling.6"),
    (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
    (r"^sam_mask_decoder\.upscale_conv1", "sam_mask_decoder.output_upscaling.0"),
    (r"^sam_mask_decoder\.upscale_layer_norm", "sam_mask_decoder.output_upscaling.1"),
    (r"^sam_mask_decoder\.upscale_conv2", "sam_mask_decoder.output_upscaling.3"),
    (r"((?:mlps\.\d+|_head)\.)layers\.0\.", r"\1layers.1."),
    (r"((?:mlps\.\d+|_head)\.)proj_in\.", r"\1layers.0."),
    (r"((?:mlps\.\d+|_head)\.)proj_out\.", r"\1layers.2."),
    (r"\.mlp\.proj_in\.", ".mlp.layers.0."),
    (r"\.mlp\.proj_out\.", ".mlp.layers.1."),
    (r"\.layer_norm(\d|_final)", r".norm\1"),
    (r"\.o_proj\.", ".out_proj."),
    (r"^no_memory_embedding$", "no_mem_embed"),
)

SIZES: dict[tuple[int, int], dict[str, Any]] = {
    (96, 12): {},
    (96, 16): {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    (112, 24): {
        "blocks_per_stage": [2, 3, 16, 3],
        "global_attention_blocks": [12, 16, 20],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_positional_embedding_background_size": [14, 14],
    },
    (144, 48): {
        "blocks_per_stage": [2, 6, 36, 4],
        "global_attention_blocks": [23, 33, 43],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}
"""Width and blocks of Hiera in SAM 2 tiny, small, base+ and large -> what no shape tells."""


def is_sam2(names: Iterable[str]) -> bool:
    """Tell whether these are the names of a SAM 2's tensors."""
    return not {METAS_PATCHES, PATCHES}.isdisjoint(names)


def load_sam2(
    state: Mapping[str, Tensor], model: Any, origin: str, warn: Callable[[str], object]
) -> Any:
    """Fill the image model of a SAM 2 with the tensors that are, or hold, its own.

    Args:
        state: under Meta's names or transformers'.
        model: without values; None if only the tensors tell which.
        origin: the file's name, for messages.
        warn: told that what videos need was left out.

    Raises:
        UserError: the size is not known, or the tensors are not those of one SAM 2.
    """
    image = {name: t for name, t in state.items() if name.partition(".")[0] not in VIDEO_PARTS}
    if len(image) < len(state):
        warn(f"{origin} can segment videos too; only what images need is loaded.")
    by_meta = METAS_PATCHES in image
    if model is None:
        model = empty_model(_infer_config(image, origin))
    expected = model.state_dict()
    names = meta_names(expected) if by_meta else {name: name for name in expected}
    found = match(expected, _with_joined_points(image) if by_meta else image, names, origin)
    return fill_(model, found, names, origin)


def meta_names(names: Iterable[str]) -> dict[str, str]:
    """Translate names of transformers' Sam2Model: theirs -> Meta's."""
    return {name: _meta_name(name) for name in names}


def image_config(config: Any) -> Any:
    """Return the configuration of the image model in a Sam2VideoConfig."""
    parts = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    given = {part: getattr(config, part).to_dict() for part in parts}
    for part in parts[1:]:  # they have other types there
        del given[part]["model_type"]
    return Sam2Config(**given, name_or_path=config.name_or_path)


def _meta_name(name: str) -> str:
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _with_joined_points(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the four embeddings of points in one, as transformers has them."""
    parts = [f"{POINTS}.{index}.weight" for index in range(4)]
    if not all(name in state for name in parts):
        return dict(state)
    joined = torch.cat([state[name] for name in parts])
    return {
        **{name: tensor for name, tensor in state.items() if name not in parts},
        f"{POINTS}.weight": joined,
    }


def _infer_config(state: Mapping[str, Tensor], origin: str) -> Any:
    """Return the configuration of the released SAM 2 whose encoder has this width and depth."""
    patches, blocks = METAS_PATCHES, "image_encoder.trunk.blocks"
    if patches not in state:
        patches, blocks = PATCHES, "vision_encoder.backbone.blocks"
    width, depth = len(state[patches]), count_numbered(state, blocks)
    if (width, depth) not in SIZES:
        known = ", ".join(f"{width} and {depth}" for width, depth in SIZES)
        raise UserError(
            f"{origin} has a SAM 2 encoder of width {width} and {depth} blocks; those of the "
            f"released ones are {known}. The tensors do not tell its heads and windows: put the "
            "config.json of transformers beside it."
        )
    widths = [width * 2**stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=width, embed_dim_per_stage=widths, **SIZES[width, depth]
    )
    vision = Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
    return Sam2Config(vision_config=vision)
