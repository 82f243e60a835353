"""SAM 2's image encoder, cut into attentions and MLPs that run one by one on a state.

Each function repeats the order of operations of the module it cuts, with the module's own parts;
tests compare the chain of all stages with the model's own forward pass.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch.nn.functional import interpolate
from transformers.models.sam2.modeling_sam2 import do_pool, window_partition, window_unpartition

from carsam.errors import UserError
from carsam.families.base import NormBefore, Role, Stage, State
from carsam.families.sam2.modules import Sam2MultiScaleBlock, Sam2VisionNeck
from carsam.families.sam2.positions import image_positions
from carsam.families.sam2.sites import FINE_LEVELS, neck_conv, stage_ends


def encoder_stages(model: Any) -> Iterator[Stage]:
    """Yield the encoder's stages; the state's entries are `hidden`, and `s0` and `s1` at the end.

    A level is made right behind the stage of Hiera that it comes from, so that the state holds
    levels as the decoder reads them, which are smaller than Hiera's.

    Raises:
        UserError: the configuration describes other levels than those of every released SAM 2.
    """
    _check_levels(model.config.vision_config)
    backbone = "vision_encoder.backbone"
    yield Stage(f"{backbone}.patch_embed", _run_patch_embedding, ("hidden",))
    stride = model.config.vision_config.backbone_config.patch_stride[0]
    side = model.config.prompt_encoder_config.image_size // stride
    ends = stage_ends(model)
    for index, block in enumerate(model.vision_encoder.backbone.blocks):
        path = f"{backbone}.blocks.{index}"
        yield from _block_stages(path, block, side)
        side = side // 2 if block.query_stride is not None else side
        if index in ends[:-1]:
            yield _level_stage(model, ends.index(index))
    yield Stage(neck_conv(model, len(ends) - 1), _run_neck, ("hidden",))


def _check_levels(config: Any) -> None:
    levels = config.num_feature_levels, list(config.fpn_top_down_levels)
    stages = len(config.backbone_config.blocks_per_stage)
    if (*levels, stages) != (3, [2, 3], 4):
        raise UserError(
            f"Found a SAM 2 of {stages} stages and {levels[0]} levels, {levels[1]} of them with "
            "what is coarser added; expected 4 stages and 3 levels, [2, 3] of them, as in every "
            "released SAM 2."
        )


def _block_stages(path: str, block: Sam2MultiScaleBlock, side: int) -> Iterator[Stage]:
    """Yield attention and MLP of a block that reads `side` x `side` tokens."""
    readers = [f"{path}.attn.qkv"] + [f"{path}.proj"] * (block.dim != block.dim_out)
    unpadded = block.window_size == 0 or side % block.window_size == 0
    before = NormBefore(f"{path}.layer_norm1", tuple(readers), unpadded)
    between = NormBefore(f"{path}.layer_norm2", (f"{path}.mlp.proj_in",), True)
    attention, mlp = (partial(run, path=path) for run in (_run_attention, _run_mlp))
    made = ("hidden",)
    yield Stage(
        f"{path}.attn",
        attention,
        made,
        path,
        Role.ENCODER_ATTENTION,
        before,
        also=(f"{path}.proj",),
        resizes=block.dim != block.dim_out,
    )
    yield Stage(f"{path}.mlp", mlp, made, path, Role.ENCODER_MLP, between)


def _level_stage(model: Any, stage: int) -> Stage:
    """Return the stage that makes one level from the output of a stage of Hiera."""
    lateral = neck_conv(model, stage)
    name = FINE_LEVELS.get(stage, "lateral")
    fine = f"mask_decoder.conv_{name}" if stage in FINE_LEVELS else None
    run = partial(run_level, name=name, layers=(lateral,) if fine is None else (lateral, fine))
    return Stage(lateral, run, (name,), also=() if fine is None else (fine,))


def _run_patch_embedding(model: Any, state: State) -> State:
    backbone = model.vision_encoder.backbone
    hidden = backbone.patch_embed(state["hidden"])  # (F, h, w, C)
    size = hidden.shape[1], hidden.shape[2]
    positions = image_positions(backbone.pos_embed, backbone.pos_embed_window, size)
    return {**state, "hidden": hidden + positions}


def _run_attention(model: Any, state: State, path: str) -> State:
    block: Sam2MultiScaleBlock = model.get_submodule(path)
    residual = state["hidden"]
    normed = block.layer_norm1(residual)
    if block.dim != block.dim_out:
        residual = do_pool(block.proj(normed), block.query_stride)
    size, window = (normed.shape[1], normed.shape[2]), block.window_size
    if window > 0:
        normed, padded = window_partition(normed, window)
    attended = block.attn(hidden_states=normed)
    if block.query_stride is not None:  # the windows have become smaller
        window //= block.query_stride[0]
        size = residual.shape[1], residual.shape[2]
        padded = tuple(-(-length // window) * window for length in size) if window else size
    if window > 0:
        attended = window_unpartition(attended, window, padded, size)
    return {**state, "hidden": residual + attended}


def _run_mlp(model: Any, state: State, path: str) -> State:
    block: Sam2MultiScaleBlock = model.get_submodule(path)
    hidden = state["hidden"]
    return {**state, "hidden": hidden + block.mlp(block.layer_norm2(hidden))}


def run_level(model: Any, state: State, name: str, layers: tuple[str, ...]) -> State:
    """Make a level of the encoder's tokens, which SAM 3's tracker does too."""
    level = state["hidden"].permute(0, 3, 1, 2)
    if name in FINE_LEVELS.values():
        level = level[:1]  # the decoder reads those of the first frame alone
    for path in layers:
        level = model.get_submodule(path)(level)
    return {**state, name: level}  # (F, C, h, w)


def _run_neck(model: Any, state: State) -> State:
    """Add the coarsest level, each number four times, to the one before it: (F, C, h, w)."""
    neck: Sam2VisionNeck = model.vision_encoder.neck
    coarse = neck.convs[0](state["hidden"].permute(0, 3, 1, 2))
    lateral = state["lateral"]
    hidden = lateral + interpolate(coarse, scale_factor=2.0, mode="nearest")
    return {**{k: v for k, v in state.items() if k != "lateral"}, "hidden": hidden}
