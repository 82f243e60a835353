"""SAM 3's image encoder, cut into attentions and MLPs that run one by one on a state.

Each function repeats the order of operations of the module it cuts, with the module's own parts;
tests compare the chain of all stages with the model's own forward pass.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from transformers.models.sam3.modeling_sam3 import window_partition, window_unpartition

from carsam.errors import UserError
from carsam.families.base import NormBefore, Role, Stage, State
from carsam.families.rotation import rotation
from carsam.families.sam2.sites import FINE_LEVELS
from carsam.families.sam2.stages import run_level
from carsam.families.sam3_tracker.modules import Sam3ViTLayer, Sam3ViTModel
from carsam.families.sam3_tracker.sites import BACKBONE, LEVELS, PATCHES, level_path
from carsam.runtime.sam3_neck import SCALES

HIDDEN = ("hidden",)


def encoder_stages(model: Any) -> Iterator[Stage]:
    """Yield the encoder's stages; the state's entries are `hidden`, and `s0` and `s1` at the end.

    Raises:
        UserError: the configuration describes other levels than those of the released SAM 3.
    """
    vision = model.config.vision_config
    if list(vision.scale_factors)[:LEVELS] != SCALES:
        raise UserError(
            f"Found a SAM 3 with levels of {vision.scale_factors} times its tokens' side; expected "
            f"{SCALES} first, as in the released one."
        )
    yield Stage(PATCHES, _run_patch_embedding, HIDDEN)
    side = vision.backbone_config.image_size // vision.backbone_config.patch_size
    for index, layer in enumerate(model.vision_encoder.backbone.layers):
        path = f"{BACKBONE}.layers.{index}"
        unpadded = layer.window_size == 0 or side % layer.window_size == 0
        readers = tuple(f"{path}.attention.{name}_proj" for name in "qkv")
        before = NormBefore(f"{path}.layer_norm1", readers, unpadded)
        between = NormBefore(f"{path}.layer_norm2", (f"{path}.mlp.fc1",), True)
        attention, mlp = (partial(run, path=path) for run in (_run_attention, _run_mlp))
        role = Role.ENCODER_ATTENTION
        yield Stage(f"{path}.attention", attention, HIDDEN, path, role, before)
        yield Stage(f"{path}.mlp", mlp, HIDDEN, path, Role.ENCODER_MLP, between)
    for level in range(LEVELS):
        name = FINE_LEVELS.get(level, "hidden")
        also = (f"mask_decoder.conv_{name}",) if level in FINE_LEVELS else ()
        run = partial(run_level, name=name, layers=(level_path(level), *also))
        yield Stage(level_path(level), run, (name,), also=also)


def _run_patch_embedding(model: Any, state: State) -> State:
    backbone: Sam3ViTModel = model.vision_encoder.backbone
    frames, _, height, width = state["hidden"].shape
    patch = model.config.vision_config.backbone_config.patch_size
    tokens = backbone.layer_norm(backbone.embeddings(state["hidden"]))  # (F, h * w, C)
    return {**state, "hidden": tokens.view(frames, height // patch, width // patch, -1)}


def _run_attention(model: Any, state: State, path: str) -> State:
    layer: Sam3ViTLayer = model.get_submodule(path)
    hidden = state["hidden"]
    config = model.config.vision_config.backbone_config
    normed = layer.layer_norm1(hidden)
    size, window = (hidden.shape[1], hidden.shape[2]), layer.window_size
    if window > 0:
        normed, padded = window_partition(normed, window)
    cells = (normed.shape[1], normed.shape[2])
    turned = rotation(
        layer.attention.head_dim,
        float(config.rope_parameters["rope_theta"]),
        cells,
        hidden.device,
        config.window_size / cells[1],
    )
    attended, _ = layer.attention(normed, turned)
    if window > 0:
        attended = window_unpartition(attended, window, padded, size)
    return {**state, "hidden": hidden + attended}


def _run_mlp(model: Any, state: State, path: str) -> State:
    layer: Sam3ViTLayer = model.get_submodule(path)
    hidden = state["hidden"]
    return {**state, "hidden": hidden + layer.mlp(layer.layer_norm2(hidden))}
