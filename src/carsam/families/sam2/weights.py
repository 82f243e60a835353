"""Weights of SAM 2 and SAM 2.1, under Meta's names or those of transformers.

The two hold the same tensors under different names. Meta's `sam2.1_hiera_*.pt` and transformers'
folders hold, beside the image model, what tracks objects through videos; SAM 2.0 and 2.1 differ
only in that.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

from carsam.errors import UserError
from carsam.families.registry import empty_model
from carsam.families.sam2.meta_names import meta_names, with_joined_points
from carsam.families.sam_geometry import count_numbered
from carsam.families.weight_checks import fill_, match

METAS_PATCHES = "image_encoder.trunk.patch_embed.proj.weight"
PATCHES = "vision_encoder.backbone.patch_embed.projection.weight"
"""The weight that only SAM 2's encoder has, by Meta and by transformers."""

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

ONLY_2_1 = {
    *("temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    *("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
}
"""Those that SAM 2.1 has and SAM 2.0 has not."""

FLAGS_2_1 = (
    "enable_occlusion_spatial_embedding",
    "enable_temporal_pos_encoding_for_object_pointers",
)
"""What transformers' configuration says of them."""

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
    """Fill a model of SAM 2 with tensors.

    Args:
        state: under Meta's names or transformers'.
        model: without values, for images or videos; None if only the tensors tell which.
        origin: the file's name, for messages.
        warn: told that what videos need was left out, as the model is for images.

    Raises:
        UserError: the size is not known, or the tensors are not those of one SAM 2.
    """
    image = {name: t for name, t in state.items() if name.partition(".")[0] not in VIDEO_PARTS}
    if model is None:
        model = empty_model(_infer_config(state, origin, video=len(image) < len(state)))
    if model.config.model_type == "sam2" and len(image) < len(state):
        warn(f"{origin} can segment videos too; only what images need is loaded.")
        state = image
    if model.config.model_type == "sam2_video":
        _check_version(model.config, state, origin)
    by_meta = METAS_PATCHES in state
    expected = model.state_dict()
    names = meta_names(expected) if by_meta else {name: name for name in expected}
    found = match(expected, with_joined_points(state) if by_meta else state, names, origin)
    return fill_(model, found, names, origin)


def _check_version(config: Any, state: Mapping[str, Tensor], origin: str) -> None:
    """Refuse the tensors of SAM 2.0 for a configuration of SAM 2.1, and the reverse."""
    found = not ONLY_2_1.isdisjoint(name.partition(".")[0] for name in state)
    flags = [getattr(config, flag) for flag in FLAGS_2_1]
    if flags != [found, found]:
        versions = ("SAM 2.1", "SAM 2.0") if found else ("SAM 2.0", "SAM 2.1")
        raise UserError(
            f"{origin} has the tensors of {versions[0]}, but its configuration is that of "
            f"{versions[1]}, or neither. Set {' and '.join(FLAGS_2_1)} in config.json to "
            f"{str(found).lower()}."
        )


def _infer_config(state: Mapping[str, Tensor], origin: str, video: bool) -> Any:
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
    vision = released_vision(width, depth)
    if not video:
        return Sam2Config(vision_config=vision)
    newer = not ONLY_2_1.isdisjoint(name.partition(".")[0] for name in state)
    flags: dict[str, Any] = dict.fromkeys(FLAGS_2_1, newer)
    return Sam2VideoConfig(vision_config=vision, **flags)


def released_vision(width: int, depth: int) -> Sam2VisionConfig:
    """Return the configuration of the encoder of a released SAM 2, one of `SIZES`."""
    widths = [width * 2**stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=width, embed_dim_per_stage=widths, **SIZES[width, depth]
    )
    return Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
