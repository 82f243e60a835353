"""Weights under the names of Meta's segment-anything, or of SAM-HQ, as transformers' models.

The two hold the same tensors under different names. All sizes are read from the tensors' shapes,
so that SAM-B, L, H and any other geometry of segment-anything's `Sam` load alike.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from carsam.errors import UserError
from carsam.families.registry import empty_model
from carsam.families.sam_geometry import IOU_HEAD, count_numbered, infer_config
from carsam.families.weight_checks import match

OTHER_MODELS = {
    "image_encoder.patch_embed.seq.0.c.weight": "MobileSAM (TinyViT encoder)",
    "image_encoder.trunk.body.": "EdgeTAM (RepViT encoder)",
    "vision_encoder.backbone.": "a later SAM than SAM 2",
}
"""The start of keys that only this model has -> what it is."""

# transformers' name -> Meta's; the first pattern that matches the start is applied.
RENAMES = (
    (
        r"(shared_image|prompt_encoder\.shared)_embedding\.positional_embedding",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"vision_encoder\.patch_embed\.projection", "image_encoder.patch_embed.proj"),
    (r"vision_encoder\.layers\.(\d+)\.layer_norm", r"image_encoder.blocks.\1.norm"),
    (r"vision_encoder\.layers", "image_encoder.blocks"),
    (r"vision_encoder\.neck\.conv1", "image_encoder.neck.0"),
    (r"vision_encoder\.neck\.layer_norm1", "image_encoder.neck.1"),
    (r"vision_encoder\.neck\.conv2", "image_encoder.neck.2"),
    (r"vision_encoder\.neck\.layer_norm2", "image_encoder.neck.3"),
    (r"vision_encoder", "image_encoder"),
    (r"prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"prompt_encoder\.mask_embed\.conv1", "prompt_encoder.mask_downscaling.0"),
    (r"prompt_encoder\.mask_embed\.layer_norm1", "prompt_encoder.mask_downscaling.1"),
    (r"prompt_encoder\.mask_embed\.conv2", "prompt_encoder.mask_downscaling.3"),
    (r"prompt_encoder\.mask_embed\.layer_norm2", "prompt_encoder.mask_downscaling.4"),
    (r"prompt_encoder\.mask_embed\.conv3", "prompt_encoder.mask_downscaling.6"),
    (
        r"mask_decoder\.transformer\.layers\.(\d+)\.layer_norm",
        r"mask_decoder.transformer.layers.\1.norm",
    ),
    (r"mask_decoder\.transformer\.layer_norm_final", "mask_decoder.transformer.norm_final"),
    (r"mask_decoder\.upscale_conv1", "mask_decoder.output_upscaling.0"),
    (r"mask_decoder\.upscale_layer_norm", "mask_decoder.output_upscaling.1"),
    (r"mask_decoder\.upscale_conv2", "mask_decoder.output_upscaling.3"),
    (r"mask_decoder\.compress_vit_conv1", "mask_decoder.compress_vit_feat.0"),
    (r"mask_decoder\.compress_vit_norm", "mask_decoder.compress_vit_feat.1"),
    (r"mask_decoder\.compress_vit_conv2", "mask_decoder.compress_vit_feat.3"),
    (r"mask_decoder\.encoder_conv1", "mask_decoder.embedding_encoder.0"),
    (r"mask_decoder\.encoder_norm", "mask_decoder.embedding_encoder.1"),
    (r"mask_decoder\.encoder_conv2", "mask_decoder.embedding_encoder.3"),
    (r"mask_decoder\.mask_conv1", "mask_decoder.embedding_maskfeature.0"),
    (r"mask_decoder\.mask_norm", "mask_decoder.embedding_maskfeature.1"),
    (r"mask_decoder\.mask_conv2", "mask_decoder.embedding_maskfeature.3"),
    (r"mask_decoder\.hq_token", "mask_decoder.hf_token"),
)

MLPS = {
    IOU_HEAD: (IOU_HEAD, None),
    "mask_decoder.output_hypernetworks_mlps": ("mask_decoder.output_hypernetworks_mlps", 3),
    "mask_decoder.hq_mask_mlp": ("mask_decoder.hf_mlp", 3),
}
"""Start of transformers' names -> Meta's, and the number of layers; None: it varies."""


def convert_meta_state_dict(
    state: Mapping[str, Tensor], origin: str = "The checkpoint"
) -> tuple[Any, dict[str, Tensor]]:
    """Return the configuration and the renamed tensors of a state dict in Meta's format.

    Args:
        origin: the file's name, for messages.

    Raises:
        UserError: if it is another model's, or keys or shapes are not those of one SAM.
    """
    refuse_other_models(state, origin)
    config = infer_config(state, origin)
    expected = empty_model(config).state_dict()
    return config, match(expected, state, meta_names(expected), origin)


def meta_names(names: Iterable[str]) -> dict[str, str]:
    """Translate names of transformers' SamModel or SamHQModel: theirs -> Meta's."""
    names = list(names)
    iou_head_depth = 2 + count_numbered(names, f"{IOU_HEAD}.layers")
    return {name: _meta_name(name, iou_head_depth) for name in names}


def refuse_other_models(state: Mapping[str, Tensor], origin: str) -> None:
    """Name the models that are taken for a SAM, and are none that is supported."""
    for start, model_name in OTHER_MODELS.items():
        if any(name.startswith(start) for name in state):
            raise UserError(
                f"{origin} has the weights of {model_name}; expected those of SAM, SAM-HQ or SAM 2."
            )


def _meta_name(name: str, iou_head_depth: int) -> str:
    """Translate a name of transformers' SamModel or SamHQModel into Meta's."""
    for pattern, replacement in RENAMES:
        renamed, matches = re.subn(rf"^{pattern}", replacement, name)
        if matches:
            return renamed
    for prefix, (theirs, depth) in MLPS.items():
        if name.startswith(prefix):
            renamed = name.replace(prefix, theirs, 1)
            return _numbered_layers(renamed, depth or iou_head_depth)
    return name


def _numbered_layers(name: str, depth: int) -> str:
    """Translate proj_in, layers.0, layers.1, ..., proj_out into layers.0 ... layers.(depth - 1)."""
    name = re.sub(r"layers\.(\d+)", lambda match: f"layers.{int(match[1]) + 1}", name)
    return name.replace("proj_in", "layers.0").replace("proj_out", f"layers.{depth - 1}")
