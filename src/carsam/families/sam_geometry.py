"""The configuration of a SAM or SAM-HQ, from the shapes of its tensors under Meta's names."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from transformers import SamConfig, SamHQConfig

from carsam.errors import UserError, few

DECODER_HEADS = 8  # of every released SAM; no shape depends on it
DECODER_NORM_EPSILON = 1e-5  # segment-anything leaves the two-way blocks at torch's default

IOU_HEAD = "mask_decoder.iou_prediction_head"
HIGH_QUALITY = "mask_decoder.hf_token.weight"
"""A tensor that SAM-HQ has and SAM has not."""


def infer_config(
    state: Mapping[str, Tensor], origin: str, norm_epsilon: float = DECODER_NORM_EPSILON
) -> Any:
    """Return the configuration of a SAM or SAM-HQ, read from the shapes of its tensors.

    Args:
        state: tensors under Meta's names.
        origin: the file's name, for messages.
        norm_epsilon: of the normalisations in the decoder's two-way blocks.

    Raises:
        UserError: a tensor that is needed is not there, or the shapes are not those of one SAM.
    """
    shapes = _Shapes(state, origin)
    _, _, patch, _ = shapes.of("image_encoder.patch_embed.proj.weight", 4)
    _, grid, _, _ = shapes.of("image_encoder.pos_embed", 4)
    mask_channels, _, _, _ = shapes.of("prompt_encoder.mask_downscaling.3.weight", 4)
    sizes = {"image_size": grid * patch, "patch_size": patch}
    decoder = {**_decoder_geometry(shapes), "layer_norm_eps": norm_epsilon}
    hidden = decoder["hidden_size"]
    config: type[Any] = SamConfig
    if HIGH_QUALITY in state:
        config = SamHQConfig
        decoder["vit_dim"], *_ = shapes.of("mask_decoder.compress_vit_feat.0.weight", 4)
    return config(
        vision_config={**sizes, **_encoder_geometry(shapes, grid), "num_pos_feats": hidden // 2},
        prompt_encoder_config={
            **sizes,
            "hidden_size": hidden,
            "mask_input_channels": mask_channels,
        },
        mask_decoder_config=decoder,
    )


def count_numbered(names: Iterable[str], prefix: str) -> int:
    """Return one more than the highest number that follows `prefix`; 0 if there is none."""
    matches = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in names)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


class _Shapes:
    """The shapes of a file's tensors, with the file's name for what it lacks."""

    def __init__(self, state: Mapping[str, Tensor], origin: str) -> None:
        self._state, self._origin = state, origin

    def of(self, name: str, dimensions: int) -> tuple[int, ...]:
        if name not in self._state:
            raise self._lacking(name)
        shape = tuple(self._state[name].shape)
        if len(shape) != dimensions or 0 in shape:
            raise UserError(
                f"{self._origin} has {name} of shape {shape}; expected {dimensions} dimensions."
            )
        return shape

    def count(self, prefix: str) -> int:
        number = count_numbered(self._state, prefix)
        if not number:
            raise self._lacking(f"{prefix}.0")
        return number

    def _lacking(self, name: str) -> UserError:
        family = "SAM-HQ" if HIGH_QUALITY in self._state else "SAM"
        return UserError(
            f"{self._origin} lacks {name}; expected all tensors of a {family}, found "
            f"{few(self._state)}."
        )


def _decoder_geometry(shapes: _Shapes) -> dict[str, Any]:
    transformer = "mask_decoder.transformer"
    hidden, internal = shapes.of(f"{transformer}.final_attn_token_to_image.out_proj.weight", 2)
    _quotient(internal, DECODER_HEADS, "cross-attention width and number of heads")
    mask_tokens, _ = shapes.of("mask_decoder.mask_tokens.weight", 2)
    iou_hidden, _ = shapes.of(f"{IOU_HEAD}.layers.0.weight", 2)
    return {
        "hidden_size": hidden,
        "mlp_dim": shapes.of(f"{transformer}.layers.0.mlp.lin1.weight", 2)[0],
        "num_hidden_layers": shapes.count(f"{transformer}.layers"),
        "num_attention_heads": DECODER_HEADS,
        "attention_downsample_rate": _quotient(
            hidden, internal, "decoder and cross-attention widths"
        ),
        "num_multimask_outputs": mask_tokens - 1,
        "iou_head_depth": shapes.count(f"{IOU_HEAD}.layers"),
        "iou_head_hidden_dim": iou_hidden,
    }


def _encoder_geometry(shapes: _Shapes, grid: int) -> dict[str, Any]:
    """Tell heads, windows and global blocks from the tables of relative positions.

    A table has 2 n - 1 rows for n x n tokens, n = `grid` in a global block, and as many columns
    as a head has channels.
    """
    encoder = "image_encoder"
    width, _, _, _ = shapes.of(f"{encoder}.patch_embed.proj.weight", 4)
    depth = shapes.count(f"{encoder}.blocks")
    tables = [shapes.of(f"{encoder}.blocks.{n}.attn.rel_pos_h", 2) for n in range(depth)]
    sides = [(rows + 1) // 2 for rows, _ in tables]
    windows = {side for side in sides if side != grid}
    if len(windows) > 1 or not all(side < grid for side in windows):
        raise UserError(
            f"Found relative positions for windows of {sorted(windows)} tokens, the image having "
            f"{grid} x {grid}; expected one smaller size. Interpolated tables are not supported."
        )
    return {
        "hidden_size": width,
        "mlp_dim": shapes.of(f"{encoder}.blocks.0.mlp.lin1.weight", 2)[0],
        "output_channels": shapes.of(f"{encoder}.neck.0.weight", 4)[0],
        "num_hidden_layers": depth,
        "num_attention_heads": _quotient(width, tables[0][1], "encoder and head widths"),
        "window_size": windows.pop() if windows else grid,
        "global_attn_indexes": [index for index, side in enumerate(sides) if side == grid],
    }


def _quotient(whole: int, part: int, name: str) -> int:
    if whole % part:
        raise UserError(f"Found {name} of {whole} and {part}; expected a multiple.")
    return whole // part
