"""Meta's names of SAM 2's tensors."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

POINTS = "sam_prompt_encoder.point_embeddings"

HEAD = r"((?:mlps\.\d+|_head|^object_pointer_proj)\.)"

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
    (rf"{HEAD}layers\.0\.", r"\1layers.1."),
    (rf"{HEAD}proj_in\.", r"\1layers.0."),
    (rf"{HEAD}proj_out\.", r"\1layers.2."),
    (r"\.mlp\.proj_in\.", ".mlp.layers.0."),
    (r"\.mlp\.proj_out\.", ".mlp.layers.1."),
    (r"\.o_proj\.", ".out_proj."),
    (
        r"^memory_encoder\.mask_downsampler\.final_conv",
        "memory_encoder.mask_downsampler.encoder.12",
    ),
    (r"^memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
    (r"^memory_encoder\.projection", "memory_encoder.out_proj"),
    (r"^memory_encoder\.memory_fuser", "memory_encoder.fuser"),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"^(memory_encoder\.fuser\.layers\.\d+)\.scale$", r"\1.gamma"),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
)

DOWNSAMPLER = re.compile(r"^memory_encoder\.mask_downsampler\.layers\.(\d+)\.(conv|layer_norm)\.")
"""Each layer is a convolution, a norm and a GELU, which Meta counts through."""


def meta_names(names: Iterable[str]) -> dict[str, str]:
    """Translate names of transformers' Sam2Model or Sam2VideoModel: theirs -> Meta's."""
    return {name: _meta_name(name) for name in names}


def with_joined_points(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return Meta's tensors with the four embeddings of points in one, as transformers has them."""
    parts = [f"{POINTS}.{index}.weight" for index in range(4)]
    if not all(name in state for name in parts):
        return dict(state)
    joined = torch.cat([state[name] for name in parts])
    return {
        **{name: tensor for name, tensor in state.items() if name not in parts},
        f"{POINTS}.weight": joined,
    }


def _meta_name(name: str) -> str:
    counted = DOWNSAMPLER.match(name)
    if counted is not None:
        place = 3 * int(counted[1]) + (counted[2] == "layer_norm")
        return f"memory_encoder.mask_downsampler.encoder.{place}.{name[counted.end() :]}"
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"\.layer_norm(\d|_final|\.)", r".norm\1", name)
