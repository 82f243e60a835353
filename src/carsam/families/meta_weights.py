"""Meta's segment-anything checkpoints (`sam_vit_*.pth`) as transformers' SamModel.

The two hold the same tensors under different names. All sizes are read from the tensors' shapes,
so that SAM-B, L, H and any other geometry of segment-anything's `Sam` load alike.
"""

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import SamConfig, SamModel

from carsam.errors import UserError
from carsam.images.preprocess import PIXEL_MEAN, PIXEL_STD

DECODER_HEADS = 8  # of every released SAM; no shape depends on it
DECODER_NORM_EPSILON = 1e-5  # segment-anything leaves the two-way blocks at torch's default

IOU_HEAD = "mask_decoder.iou_prediction_head"

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Keys under which training scripts store the state dict."""

OTHER_MODELS = {
    "image_encoder.patch_embed.seq.0.c.weight": "MobileSAM (TinyViT encoder)",
    "mask_decoder.hf_token.weight": "SAM-HQ",
    "image_encoder.trunk.patch_embed.proj.weight": "SAM 2",
    "vision_encoder.patch_embed.projection.weight": "a SAM with transformers' names",
}
"""A key that only this model has -> what it is."""

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
)


def load_meta_checkpoint(path: Path) -> SamModel:
    """Load a checkpoint file of segment-anything, in float32 and evaluation mode.

    Raises:
        UserError: if the file is no checkpoint of torch, holds something else than a SAM's state
            dict, or a weight that is not finite.
    """
    state = _read_state_dict(path)
    config, converted = convert_meta_state_dict(state)
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"Found NaN or infinite values in {name} of {path}; use intact weights."
            )
    with torch.device("meta"):
        model = SamModel(config)
    # A copy, so that the model outlives the mapped file.
    copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in converted.items()}
    model.load_state_dict(copies, assign=True)
    model.tie_weights()
    return model.eval()


def convert_meta_state_dict(state: Mapping[str, Tensor]) -> tuple[SamConfig, dict[str, Tensor]]:
    """Return the configuration and the renamed tensors of a state dict in Meta's format.

    Raises:
        UserError: if it is another model's, or keys or shapes are not those of one SAM.
    """
    for key, model_name in OTHER_MODELS.items():
        if key in state:
            raise UserError(f"Found weights of {model_name}; expected segment-anything's SAM.")
    config = _infer_config(state)
    with torch.device("meta"):
        expected = SamModel(config).state_dict()
    iou_head_depth = _count(state, f"{IOU_HEAD}.layers")
    meta_names = {name: _meta_name(name, iou_head_depth) for name in expected}
    _check_normalisation(state)
    known = {*meta_names.values(), "pixel_mean", "pixel_std"}
    _refuse("lacks", (name for name in meta_names.values() if name not in state))
    _refuse("has the unknown", (name for name in state if name not in known))
    _refuse(
        "has integers as",
        (name for name in meta_names.values() if not state[name].is_floating_point()),
    )
    _refuse(
        "has a wrong shape of",
        (
            f"{source} (found {tuple(state[source].shape)}, expected {tuple(tensor.shape)})"
            for tensor, source in zip(expected.values(), meta_names.values(), strict=True)
            if state[source].shape != tensor.shape
        ),
    )
    return config, {name: state[source] for name, source in meta_names.items()}


def _read_state_dict(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise UserError(f"Found no file {path}; give a segment-anything checkpoint (.pth).")
    try:
        # Only torch's zip format can be mapped instead of read.
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:  # the unpickler raises almost any type on foreign bytes
        raise UserError(
            f"Cannot read {path}: it is damaged, no torch file, or holds more than tensors, "
            "such as a whole model. Give the state dict of a SAM as saved by torch.save."
        ) from error
    if isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if key in content), content)
    if not isinstance(content, Mapping) or not content or not all(map(_is_weight, content.items())):
        raise UserError(
            f"Found {_description(content)} in {path}; expected a state dict, names and tensors: "
            "save one with torch.save(model.state_dict(), path)."
        )
    return content


def _is_weight(item: tuple[object, object]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, Tensor)


def _description(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    others = [str(name) for name, value in content.items() if not _is_weight((name, value))]
    return f"entries that are no weights ({_few(others)})" if others else "nothing"


def _infer_config(state: Mapping[str, Tensor]) -> SamConfig:
    """Read the geometry of a SAM from the shapes of its tensors."""
    encoder, decoder, prompts = "image_encoder", "mask_decoder", "prompt_encoder"
    width, _, patch, _ = _shape(state, f"{encoder}.patch_embed.proj.weight", 4)
    _, grid, _, _ = _shape(state, f"{encoder}.pos_embed", 4)
    hidden, internal = _shape(
        state, f"{decoder}.transformer.final_attn_token_to_image.out_proj.weight", 2
    )
    _quotient(internal, DECODER_HEADS, "cross-attention width and number of heads")
    mask_tokens, _ = _shape(state, f"{decoder}.mask_tokens.weight", 2)
    iou_hidden, _ = _shape(state, f"{IOU_HEAD}.layers.0.weight", 2)
    mask_channels, _, _, _ = _shape(state, f"{prompts}.mask_downscaling.3.weight", 4)
    sizes = {"image_size": grid * patch, "patch_size": patch}
    return SamConfig(
        vision_config={
            **sizes,
            **_attention_geometry(state, width, grid),
            "hidden_size": width,
            "mlp_dim": _shape(state, f"{encoder}.blocks.0.mlp.lin1.weight", 2)[0],
            "output_channels": _shape(state, f"{encoder}.neck.0.weight", 4)[0],
            "num_pos_feats": hidden // 2,
        },
        prompt_encoder_config={
            **sizes,
            "hidden_size": hidden,
            "mask_input_channels": mask_channels,
        },
        mask_decoder_config={
            "hidden_size": hidden,
            "mlp_dim": _shape(state, f"{decoder}.transformer.layers.0.mlp.lin1.weight", 2)[0],
            "num_hidden_layers": _count(state, f"{decoder}.transformer.layers"),
            "num_attention_heads": DECODER_HEADS,
            "attention_downsample_rate": _quotient(
                hidden, internal, "decoder and cross-attention widths"
            ),
            "num_multimask_outputs": mask_tokens - 1,
            "iou_head_depth": _count(state, f"{IOU_HEAD}.layers"),
            "iou_head_hidden_dim": iou_hidden,
            "layer_norm_eps": DECODER_NORM_EPSILON,
        },
    )


def _attention_geometry(state: Mapping[str, Tensor], width: int, grid: int) -> dict[str, object]:
    """Tell heads, windows and global blocks from the tables of relative positions.

    A table has 2 n - 1 rows for n x n tokens, n = `grid` in a global block, and as many columns
    as a head has channels.
    """
    depth = _count(state, "image_encoder.blocks")
    tables = [_shape(state, f"image_encoder.blocks.{n}.attn.rel_pos_h", 2) for n in range(depth)]
    sides = [(rows + 1) // 2 for rows, _ in tables]
    windows = {side for side in sides if side != grid}
    if len(windows) > 1 or not all(side < grid for side in windows):
        raise UserError(
            f"Found relative positions for windows of {sorted(windows)} tokens, the image having "
            f"{grid} x {grid}; expected one smaller size. Interpolated tables are not supported."
        )
    return {
        "num_hidden_layers": depth,
        "num_attention_heads": _quotient(width, tables[0][1], "encoder and head widths"),
        "window_size": windows.pop() if windows else grid,
        "global_attn_indexes": [index for index, side in enumerate(sides) if side == grid],
    }


def _meta_name(name: str, iou_head_depth: int) -> str:
    """Translate a name of transformers' SamModel into Meta's."""
    for pattern, replacement in RENAMES:
        renamed, matches = re.subn(rf"^{pattern}", replacement, name)
        if matches:
            return renamed
    depths = {IOU_HEAD: iou_head_depth, "mask_decoder.output_hypernetworks_mlps": 3}
    for prefix, depth in depths.items():
        if name.startswith(prefix):
            return _numbered_layers(name, depth)
    return name


def _numbered_layers(name: str, depth: int) -> str:
    """Translate proj_in, layers.0, layers.1, ..., proj_out into layers.0 ... layers.(depth - 1)."""
    name = re.sub(r"layers\.(\d+)", lambda match: f"layers.{int(match[1]) + 1}", name)
    return name.replace("proj_in", "layers.0").replace("proj_out", f"layers.{depth - 1}")


def _check_normalisation(state: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint that was trained with other pixel statistics than SAM's."""
    for name, expected in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):
        found = state.get(name)
        if found is not None and found.flatten().tolist() != expected.tolist():
            raise UserError(
                f"Found {name} {found.flatten().tolist()}; expected SAM's {expected.tolist()}, "
                "the only ones that are supported."
            )


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state:
        raise _lacking(name, state)
    shape = tuple(state[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise UserError(f"Found {name} of shape {shape}; expected {dimensions} dimensions.")
    return shape


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return one more than the highest number that follows `prefix`."""
    matches = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in state)
    numbers = [int(match[1]) for match in matches if match]
    if not numbers:
        raise _lacking(f"{prefix}.0", state)
    return 1 + max(numbers)


def _quotient(whole: int, part: int, name: str) -> int:
    if whole % part:
        raise UserError(f"Found {name} of {whole} and {part}; expected a multiple.")
    return whole // part


def _lacking(name: str, state: Mapping[str, Tensor]) -> UserError:
    return UserError(
        f"The checkpoint lacks {name}; expected the state dict of segment-anything's SAM, "
        f"found {_few(state)}."
    )


def _refuse(fault: str, names: Iterable[str]) -> None:
    listed = list(names)
    if listed:
        raise UserError(
            f"The checkpoint {fault} {_few(listed)}; expected the tensors of segment-anything's "
            "SAM, all of one geometry."
        )


def _few(names: Iterable[str]) -> str:
    first, *rest = names = list(dict.fromkeys(names))
    shown = ", ".join([first, *rest[:2]])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
